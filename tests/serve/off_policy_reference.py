"""Writes what sb-obp estimates for a small log, which ``test_off_policy.py`` holds our estimates against.

sb-obp needs NumPy below 2, so it has an environment of its own:

    python3.11 -m venv obp-env && obp-env/bin/pip install sb-obp==0.5.10
    obp-env/bin/python tests/serve/off_policy_reference.py > tests/serve/off_policy_reference.json
"""

from __future__ import annotations

import json
from importlib.metadata import version

import numpy as np
from obp.ope import DoublyRobust, InverseProbabilityWeighting, SelfNormalizedInverseProbabilityWeighting

N, ACTIONS = 300, 4


def main() -> None:
    """Draw a log, estimate, print JSON."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.05, 0.6, (N, ACTIONS))
    logging, target = rng.dirichlet([8, 6, 4, 3], N), rng.dirichlet([2, 3, 5, 4], N)
    action = np.array([rng.choice(ACTIONS, p=row) for row in logging])
    rows = np.arange(N)
    reward = (rng.random(N) < truth[rows, action]).astype(int)
    model = np.clip(truth + rng.normal(0, 0.1, truth.shape), 0, 1)
    common = {
        "reward": reward,
        "action": action,
        "pscore": logging[rows, action],
        "action_dist": target[:, :, None],
    }
    estimates = {
        "ips": InverseProbabilityWeighting().estimate_policy_value(**common),
        "snips": SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**common),
        "dr": DoublyRobust().estimate_policy_value(**common, estimated_rewards_by_reg_model=model[:, :, None]),
    }
    log = {
        "rewards": reward,
        "propensities": logging[rows, action],
        "target": target[rows, action],
        "model_reward": model[rows, action],
        "model_value": (target * model).sum(1),
    }
    content = {
        "made_by": f"tests/serve/off_policy_reference.py with sb-obp {version('sb-obp')}",
        "estimates": {name: float(value) for name, value in estimates.items()},
        "log": {name: [float(value) for value in column] for name, column in log.items()},
    }
    print(json.dumps(content))


if __name__ == "__main__":
    main()
