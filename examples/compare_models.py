# %% [markdown]
# # Comparing models on a signed set
#
# A table of three models with the same split, and a test of whether the differences are more than chance. The script
# runs as it is: `python examples/compare_models.py`. It takes a minute.

# %%
from pathlib import Path

import recbole_signed as rs
from recbole_signed.lab.significance import significance, pairwise_table
from recbole_signed.table import to_text

dataset = "ml-100k-signed"  # makes itself; the name of any signed data set

# %% [markdown]
# ## The table
#
# `recbole-signed compare` takes the same yaml file. Popularity is the reference.

# %%
Path("three_models.yaml").write_text(
    f"""
title: Three models
datasets: [{dataset}]
common:
  metrics: [Recall, NDCG, DislikeRecall, SignAUC]
  topk: [20]
  valid_metric: NDCG@20
models:
  SSF:
  EASE:
  Pop:
seeds: [2020]
columns: [recall@20, ndcg@20, dislikerecall@20, signauc]
"""
)
comparison = rs.compare(Path("three_models.yaml"))
for row in comparison.rows:
    print(f"{row.model:8} recall@20 {row.test['recall@20']:.4f}  dislikerecall@20 {row.test['dislikerecall@20']:.4f}")

# %% [markdown]
# Each run was a process of its own. Its row is in `three_models.jsonl`, with settings, checksums, versions, times and
# memory; the printed table is in `three_models.md`. A second call runs nothing:

# %%
assert rs.compare(Path("three_models.yaml")).n_new == 0

# %% [markdown]
# ## Beyond chance?
#
# The test metrics of every user are kept beside the rows, so models are compared in pairs, user by user. On the
# command line: `recbole-signed significance three_models.yaml`.

# %%
outcome = significance(Path("three_models.yaml"), ["ndcg@20"], resamples=1000)
print(to_text(pairwise_table(outcome)))
