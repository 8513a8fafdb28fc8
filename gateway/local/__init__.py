"""The pool of local models in this process: from a request to an answer, without leaving the machine.

`pool` is the backend. It reads a body (`request`, `messages`, `fields`), finds the model
(`catalog`), decides (`residency`, `scheduler`), and hands the work to an engine behind a border of
plain data (`mailbox`, kept alive by `host`). `engine` is the other side; `prompt`, `stops` and
`pieces` are what it decides by. `reply` and `output` make JSON of what comes back.
"""
