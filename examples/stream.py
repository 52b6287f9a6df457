# %% [markdown]
# # Learning from a stream
#
# A model that goes on after training: events change the recommendations at once, and the state survives a crash. The
# script runs as it is: `python examples/stream.py`.

# %%
import shutil
from pathlib import Path

import recbole_signed as rs  # before recbole: it repairs RecBole for today's libraries
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model

dataset = "ml-100k-signed"  # makes itself; the name of any signed data set
state = Path(f"runs/online/tutorial-{dataset}")
shutil.rmtree(state, ignore_errors=True)  # of an earlier run of this script, which this one would go on with
config = Config(model="SSF", dataset=dataset, config_dict={"online_state": str(state)})
train_data, valid_data, test_data = data_preparation(config, create_dataset(config))
model = get_model("SSF")(config, train_data.dataset)

# %% [markdown]
# ## Train, then open the state
#
# `fit` trains as usual. Then the training edges and the vocabulary go to the state directory.

# %%
trainer = rs.OnlineTrainer(config, model)
trainer.fit(train_data, valid_data)
user = str(train_data.dataset.field2id_token["user_id"][1])
before = trainer.recommend(user, k=5)
print(user, before)

# %% [markdown]
# ## Events
#
# Time stamps are whole milliseconds since 1970. `update` returns when the events are on the disk and in the ranking.

# %%
disliked, liked = before[0][0], before[1][0]
now = 1_700_000_000_000
done = trainer.update([rs.Event("e1", user, disliked, "dislike", now), rs.Event("e2", user, liked, "like", now + 1000)])
after = trainer.recommend(user, k=5)
print(f"{done.seconds * 1000:.1f} ms", after)
assert not {disliked, liked} & {item for item, _ in after}

# %% [markdown]
# An event id counts once: a source that delivers twice does no harm.

# %%
trainer.update([rs.Event("e1", user, disliked, "dislike", now)])
assert trainer.recommend(user, k=5) == after

# %% [markdown]
# ## Somebody new, and a change of mind

# %%
trainer.update([rs.Event("e3", "somebody new", liked, "like", now + 2000)])
print(trainer.recommend("somebody new", k=5))
trainer.update([rs.Event("e4", user, disliked, "undislike", now + 3000)])
assert disliked in {item for item, _ in trainer.recommend(user, k=20)}

# %% [markdown]
# ## Refresh, refit, snapshot
#
# `refresh` brings the item side up to date, `refit` learns from scratch in the background. A snapshot is what the
# next start begins from; later events are replayed on it. `recbole-signed state versions list FOLDER` shows the
# versions.

# %%
trainer.refresh()
trainer.refit().result()
print(trainer.snapshot())
trainer.close()
