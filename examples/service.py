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
def serve(*words):
    """Return a service and its address."""
    command = [sys.executable, "-m", "recbole_signed", "serve", "--port", "0", *words]  # recbole-signed serve ...
    service = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    return service, next(line.split()[2] for line in service.stderr if line.startswith("Serving on "))


files = ["--init", "SSF", "--input", "ratings.csv", "--items", "items.csv", "--state", "shop"]
service, address = serve(*files, "item=movieId", "like=rating >= 4", "dislike=rating <= 2", "auto=False")


def ask(path, body=None):
    """Return what the service answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


# %% [markdown]
# ## A list, a dislike, the list after it
#
# Items have their names in answers. An item that its user judged is in no list of it, and `explain` says so first.

# %%
user = str(ratings["userId"][0])
lists = f"/v1/users/{user}/recommendations?k=5"
before = ask(lists)["items"]
print([item["name"] for item in before])
disliked, seen = before[0]["item"], before[1]["item"]
ask("/v1/events", {"events": [{"user_id": user, "item_id": disliked, "type": "dislike"}]})
ask("/v1/events", {"events": [{"user_id": user, "item_id": seen, "type": "hide"}]})  # no more than: already seen
after = ask(lists)["items"]
print([item["name"] for item in after])
assert not {disliked, seen} & {item["item"] for item in after}
print(ask(f"/v1/users/{user}/explain/{disliked}")["sentence"])
service.terminate()
service.wait()

# %% [markdown]
# ## New items
#
# `recbole-signed serve --state shop` goes on from here. With `new_items` the last places of each list are kept for
# items with few verdicts, and the service counts the likes and dislikes that these places lead to.

# %%
Path("shop.yaml").write_text("new_items: {slots: 1, verdicts: 10}\n")
service, address = serve("--state", "shop", "--config", "shop.yaml")
others = [str(other) for other in ratings["userId"].unique()[:3]]
ask("/v1/events", {"events": [{"user_id": other, "item_id": "new", "type": "like"} for other in others]})
shown = [item["item"] for item in ask(lists)["items"]]
print(shown)
ask("/v1/events", {"events": [{"user_id": user, "item_id": shown[-1], "type": "like"}]})
print(ask("/v1/quality")["windows"]["hour"])
service.terminate()
service.wait()

# %% [markdown]
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
# A saved model is served with the names that its data has.

# %%
model.save("shop.rs")
shutil.rmtree("shop-of-model", ignore_errors=True)
service, address = serve("--model", "shop.rs", "--state", "shop-of-model")
print(ask(lists)["items"])
service.terminate()
service.wait()
