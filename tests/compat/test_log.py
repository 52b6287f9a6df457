"""What is warned of is said once, however often a model is fitted."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import recbole_signed as rs
from recbole_signed.compat.log import each_warning_once
from recbole_signed.model.signedease import SignedEASE
from recbole_signed.runs import run


def test_a_warning_passes_once_in_its_thread(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger()

    def say() -> None:
        for word in ("no times", "no times", "no sign"):
            logger.warning("there are %s", word)
            logger.error("there are %s", word)

    with each_warning_once():
        say()
        other = threading.Thread(target=say)
        other.start()
        other.join()
    assert len([each for each in caplog.records if each.levelno == logging.WARNING]) == 2 + 3
    assert len([each for each in caplog.records if each.levelno == logging.ERROR]) == 6
    caplog.clear()
    say()
    assert len(caplog.records) == 6


def test_a_model_that_is_fitted_twice_says_once_what_it_lacks(caplog: pytest.LogCaptureFixture) -> None:
    rows = [(f"u{u}", f"i{i}", 1 if (u + i) % 3 else -1) for u in range(12) for i in range(12) if (u * i) % 5 != 1]
    rs.fit("SSFT", rs.from_frame(pd.DataFrame(rows, columns=["user_id", "item_id", "sign"])), rank=4, cutoff=2)
    assert caplog.text.count("SSFT is SSF here") == 1


def test_a_run_that_fits_again_for_the_test_says_so_once(
    write_inter: Callable[..., Path],
    signed_rows: list,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_inter("signed", ["user_id:token", "item_id:token", "sign:float", "timestamp:float"], signed_rows)
    fit, fits = SignedEASE.fit, []

    def warns(self: SignedEASE) -> None:
        fits.append(self)
        logging.getLogger().warning("there is little to fit")
        fit(self)

    monkeypatch.setattr(SignedEASE, "fit", warns)
    held = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}
    settings = {
        "eval_args": held,
        "refit_for_test": True,
        "dislike_split": "time",
        "load_col": {"inter": ["user_id", "item_id", "sign", "timestamp"]},
    }
    run("SignedEASE", "signed", overrides=settings, save=False)
    assert len(fits) == 2
    assert caplog.text.count("there is little to fit") == 1
