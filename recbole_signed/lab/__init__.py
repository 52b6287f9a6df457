"""The lab: tuning, tests of significance, analyses of a fitted model, statistics, synthesis, the export to RecBole."""
