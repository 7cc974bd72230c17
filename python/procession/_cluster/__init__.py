"""Runs pools and processes on the machines of a Dask cluster, and managers for them.


Dask supplies the membership (which nodes there are, and that one has gone), the addresses, TLS and the start of nodes.
A *node* is one Dask worker process. Calls do not go through Dask's scheduler, which costs milliseconds for each: the
client opens a connection of Dask's own kind to each node (a *link*), and the node runs what arrives there in a
`procession.Pool` of its own. So a call is sent to one node and to no other unless the client decides so (`retries`).

On the client's side:

- `context`: `ClusterContext`, which `procession.cluster()` and `get_context("dask")` return
- `connect`: the Dask client, what is refused (plain tcp, other versions)
- `members`: the nodes; tells its watchers who joins, who leaves, and that the scheduler has gone
- `engine`, `groups`, `supervisor`: the interface of `_pool/engine.py`, so `procession.pool.Pool` runs on it as it is
- `common`: big buffers that several calls have in common
- `share`: how many workers of a pool each node has
- `link`: the connection of one pool to one node: what was sent there, and how much may be
- `pickling`: objects for another machine: by value if they are of the main module, refused if they are of the family
- `main_globals`: what an initializer leaves in global variables of the main module
- `refusal`: which objects are refused, and what the error says

- `process`: `ClusterProcess`, which runs on a node, and its connection
- `manager`, `certificate`: a `SyncManager` that nodes reach through TLS
- `whole_program`: `python -m procession --cluster`, for programs that know nothing of clusters
- `uploads`: files for all nodes (and the node's side of it)

- `sync`: locks and events that all processes of a cluster share; a package with a map of its own

On a node:

- `node`: the agent of pools in the Dask worker. It passes bytes on and unpickles nothing of the program's
- `worker`: what the workers of the node's pool run
- `process_node`: the agent of processes; `streams`: how it reads what a process prints and logs
- `node_process`, `process_child`: how such a process is started, and how it begins

`Members.watch(w)` calls `w.joined(node)`, `w.left(node, why)` and `w.lost(error)` in the thread of Dask's loop.
`Members.run(function, address, *args)` runs an importable function in the process of a node. `Members.connect(node)`
opens a comm to a node, where each kind of agent has a handler. `Members.home()` is the address under which nodes reach
the client's machine.
"""
