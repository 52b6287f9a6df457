# %% [markdown]
# # Own data to recommendations
#
# From a table of ratings to recommendations for every user: signs, a fit, explanations, a file that is loaded again.
# The script runs as it is: `python examples/own_data.py`. It takes `ratings.csv` of the folder that it runs in, with
# the columns `userId`, `movieId`, `rating` and `timestamp`; without that file MovieLens 100K out of RecBole's wheel.

# %%
from pathlib import Path

import polars as pl

import recbole_signed as rs

if Path("ratings.csv").exists():
    ratings = pl.read_csv("ratings.csv")
else:
    folder = rs.convert("movielens-100k", None, "atomic_files", overwrite=True)
    ratings = pl.read_csv(folder / f"{folder.name}.inter", separator="\t")
    ratings = ratings.select(
        userId="user_id:token", movieId="item_id:token", rating="rating:float", timestamp="timestamp:float"
    )
print(ratings.head())

# %% [markdown]
# ## Signs
#
# Four and five stars are likes, one and two are dislikes, three is neutral.

# %%
data = rs.from_frame(
    ratings, user="userId", item="movieId", like="rating >= 4", dislike="rating <= 2", time="timestamp"
)
print(data)

# %% [markdown]
# ## A fit and recommendations
#
# `fit` learns from everything. `SSF` takes seconds and needs no GPU. Ids are compared as text, so `7` and `"7"` are
# the same user.

# %%
model = rs.fit("SSF", data)
user = str(ratings["userId"][0])
recommended = model.recommend(user, k=5)
print(recommended)

# %% [markdown]
# ## Why?
#
# The contributions of the user's edges, and what the item's popularity adds, sum to the score.

# %%
best = recommended["item"][0]
print(model.explain(user, best))
print(model.similar(best, k=5))

# %% [markdown]
# ## Fewer dislikes
#
# `dislike_aversion` weighs how often others disliked an item. It is changed per request, without a new fit.

# %%
print(model.recommend(user, k=5, dislike_aversion=2.0))

# %% [markdown]
# ## Somebody new
#
# A user whom the model does not know gets what a user without edges gets.

# %%
print(model.recommend("somebody new", k=5))

# %% [markdown]
# ## Keep the model
#
# `model.users` and `model.items` can be iterated: `model.recommend(model.users)` ranks for all. So does the command
# `recbole-signed recommend --model ssf.rs --all --output recs.parquet`.

# %%
model.save("ssf.rs")
print(model.recommend(list(model.users)[:3], k=2))
again = rs.load("ssf.rs").recommend(user, k=5)
assert list(again["item"]) == list(recommended["item"])
print(f"saved {Path('ssf.rs').stat().st_size / 1e6:.1f} MB")
