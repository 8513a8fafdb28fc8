"""Everything that is used of mlx-lm and of MLX's untyped corners, in one place.

mlx-lm is pinned exactly and none of this is a stable API: when the pin moves, this is the list
to check.
"""

from __future__ import annotations

from typing import Any

from mlx.utils import tree_flatten as _tree_flatten
from mlx_lm.generate import BatchGenerator as _BatchGenerator
from mlx_lm.generate import TextStateMachine as _TextStateMachine
from mlx_lm.generate import make_text_state_machine as _make_text_state_machine
from mlx_lm.models.cache import make_prompt_cache as _make_prompt_cache
from mlx_lm.utils import load_model as _load_model
from mlx_lm.utils import load_tokenizer as _load_tokenizer
from mlx_lm.utils import maybe_set_recommended_wired_limit as _raise_wired_limit

# Untyped there, so Any here.
BatchGenerator: Any = _BatchGenerator
TextStateMachine: Any = _TextStateMachine
make_text_state_machine: Any = _make_text_state_machine
make_prompt_cache: Any = _make_prompt_cache
load_model: Any = _load_model
load_tokenizer: Any = _load_tokenizer
raise_wired_limit: Any = _raise_wired_limit
tree_flatten: Any = _tree_flatten
