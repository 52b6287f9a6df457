# %% [markdown]
# # From a CSV file to a service
#
# Ratings and the names of the items in two CSV files become a service over HTTP by one command, or a model in Python
# that follows events. The script runs as it is: `python examples/service.py`. It takes `ratings.csv` of the folder
# that it runs in, with the columns `userId`, `movieId` and `rating`; without it MovieLens 100K out of RecBole's wheel.

# %%
import json
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import polars as pl

import recbole_signed as rs

if not Path("ratings.csv").exists():
    folder = rs.convert("movielens-100k", None, "atomic_files", overwrite=True)
    table = pl.read_csv(folder / f"{folder.name}.inter", separator="\t")
    table.select(userId="user_id:token", movieId="item_id:token", rating="rating:float").write_csv("ratings.csv")
ratings = pl.read_csv("ratings.csv")
items = ratings.select(pl.col("movieId").unique().sort()).with_columns(
    title=pl.format("Film {}", "movieId"), genre=pl.format("genre {}", pl.col("movieId") % 3)
)
items.write_csv("items.csv")
for state in ("shop", "shop-in-python"):
    shutil.rmtree(state, ignore_errors=True)  # of an earlier run of this script

# %% [markdown]
# ## One command
#
# `--input` takes the options of `convert csv`: here the column of the items and what a like and a dislike is. Names
# are in the column `title`. `auto=False` leaves the parameters of SSF as they are preset: the fit takes seconds.

# %%
command = [sys.executable, "-m", "recbole_signed", "serve"]  # at a prompt: recbole-signed serve
command += ["--init", "SSF", "--input", "ratings.csv", "--items", "items.csv", "--state", "shop", "--port", "0"]
command += ["item=movieId", "like=rating >= 4", "dislike=rating <= 2", "auto=False"]
service = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
address = next(line.split()[2] for line in service.stderr if line.startswith("Serving on "))


def ask(path, body=None):
    """Return what the service answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


# %% [markdown]
# ## A list, a dislike, the list after it

# %%
user = str(ratings["userId"][0])
before = [each["item"] for each in ask(f"/v1/users/{user}/recommendations?k=5")["items"]]
print(ask("/v1/items?" + "&".join(f"id={item}" for item in before)))
ask("/v1/events", {"events": [{"user_id": user, "item_id": before[0], "type": "dislike"}]})
after = [each["item"] for each in ask(f"/v1/users/{user}/recommendations?k=5")["items"]]
print(before, after)
assert before[0] not in after
service.terminate()
service.wait()

# %% [markdown]
# `recbole-signed serve --state shop` goes on from here.
#
# ## From a fitted model
#
# `online` begins the same state in Python. An event is in the ranking once `update` returns. Time stamps are
# milliseconds since 1970.

# %%
data = rs.from_frame(ratings, user="userId", item="movieId", like="rating >= 4", dislike="rating <= 2", items=items)
model = rs.fit("SSF", data, auto=False)
live = model.online("shop-in-python")
best, _ = live.recommend(user, k=1)[0]
live.update([rs.Event("e1", user, best, "dislike", 1_700_000_000_000)])
print(live.recommend(user, k=5))
assert best not in [item for item, _ in live.recommend(user, k=100)]
live.close()

# %% [markdown]
# A saved model is served by `recbole-signed serve --model shop.rs --state DIRECTORY`, with the names that its data has.

# %%
model.save("shop.rs")
