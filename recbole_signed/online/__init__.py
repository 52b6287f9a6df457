"""Online updates: events, the durable log and its vocabulary, the current edges, and versions that can be gone back to.

`recbole_signed.online.store.state.OnlineState` ties them together; nothing here knows a model, torch or RecBole.
"""
