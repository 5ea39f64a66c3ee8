"""The base of ``RNN``, ``GRU`` and ``LSTM``: torch's interface, the options beyond torch's, and the run through layers and directions.

T time · B batch · I input · H hidden · P output: H, or the projection's size · D directions · L layers · G gates · S states.
"""

import abc
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from .. import _check
from .._shapes import State
from .._torch_private import let_compile_see, never_compiled
from ..cells import LSTM as LSTMStep, AbstractCell
from ..kernels import Memory, Parameters, Traversal, Variation, recurrence, unrolled
from ._border import TimeFirst, autocasts, kind_of, to_caller_layout, to_time_first
from ._normalised import NormalisedLSTM
from ._packed import Run
from ._short import short_call
from ._short_packed import short_packed
from ._torchs_own import Refusals, leaf, packed_lstm_keeps_precision, torchs_own_answers


class Layers(Refusals, nn.RNNBase, metaclass=abc.ABCMeta):
    """The base of ``RNN``, ``GRU`` and ``LSTM``. The first arguments of the constructor and of the call, and all names, are torch's.

    Args:
        learn_h0: the state before the first step is a parameter, ``h_0`` (L·D, 1, P) and for LSTM ``c_0``, initially zero.
        recurrent_dropout: in training, the h that R multiplies is masked, with one mask for each sequence (variational dropout).
        zoneout: in training, each unit keeps its previous state with this probability; in evaluation, the mean of both cases.
        layer_norm: W x and R h are each normalised over all G·H entries, with gains ``norm_ih`` and ``norm_hh``, before the biases.
            For LSTM, c is also normalised in the equation of h (``norm_c``, ``norm_c_bias``).
        state_batch_first: states are (B, L·D, P), in arguments and in results.
        memory: "fast" keeps every gate for backward; "lean" recomputes them.

    Raises:
        InputError: an option out of its range.
        ValueError, TypeError, RuntimeError: as in torch.

    Recurrent dropout, zoneout, layer normalisation and projections run as a graph of torch's own operations, which is slower.

    >>> from throughtime import GRU
    >>> layer = GRU(3, 5, recurrent_dropout=0.25, zoneout=0.1, layer_norm=True)
    >>> layer(torch.zeros(7, 4, 3))[0].shape
    torch.Size([7, 4, 5])

    References:
        Gal & Ghahramani, *A theoretically grounded application of dropout in recurrent neural networks*, 2016. Krueger et al.,
        *Zoneout*, 2017. Ba, Kiros & Hinton, *Layer normalization*, 2016 (eq. 20–22). Sak, Senior & Beaufays, *Long short-term
        memory recurrent neural network architectures for large scale acoustic modeling*, 2014 (projections).
    """

    # Defaults of the class, because a torch module that was accelerated did not run this constructor.
    learn_h0: bool = False
    recurrent_dropout: float = 0.0
    zoneout: float = 0.0
    layer_norm: bool = False
    state_batch_first: bool = False
    memory: Memory = "fast"

    def __init__(
        self,
        *args: Any,
        learn_h0: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        layer_norm: bool = False,
        state_batch_first: bool = False,
        memory: Memory = "fast",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        _check.one_of("memory", memory, ("fast", "lean"))
        self.learn_h0, self.layer_norm, self.state_batch_first = learn_h0, layer_norm, state_batch_first
        self.recurrent_dropout = _check.fraction("recurrent_dropout", recurrent_dropout)
        self.zoneout = _check.fraction("zoneout", zoneout)
        self.memory = memory
        self._add_parameters()
        self._reset_options()

    @abc.abstractmethod
    def _step(self) -> AbstractCell:
        """The cell of every layer."""

    def _add_parameters(self) -> None:
        """Register the parameters that torch's module does not have."""
        like, D = self.get_parameter("weight_ih_l0"), 2 if self.bidirectional else 1
        gates, new = like.shape[0], lambda *shape: nn.Parameter(like.new_empty(shape))
        if self.learn_h0:
            for name, size in self.state_sizes().items():
                self.register_parameter(f"{name}_0", new(self.num_layers * D, 1, size))
        if self.layer_norm:
            for suffix in self._suffixes():
                self.register_parameter(f"norm_ih_{suffix}", new(gates))
                self.register_parameter(f"norm_hh_{suffix}", new(gates))
                if len(self.state_sizes()) > 1:
                    self.register_parameter(f"norm_c_{suffix}", new(self.hidden_size))
                    self.register_parameter(f"norm_c_bias_{suffix}", new(self.hidden_size))

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self._reset_options()

    @torch.no_grad()
    def _reset_options(self) -> None:
        """Set initial states and offsets to 0, gains to 1."""
        for name, p in self.named_parameters():
            if name in ("h_0", "c_0") or name.startswith("norm_c_bias"):
                p.zero_()
            elif name.startswith("norm_"):
                p.fill_(1.0)

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        reset: Tensor | None = None,
    ) -> tuple[Any, Any]:
        """Run all layers and directions.

        Args:
            input: (T, B, I), (B, T, I) with ``batch_first``, (T, I), or a ``PackedSequence``.
            hx: (L·D, B, P), for LSTM a pair; None: zeros, or the learned state.
            lengths: (B,) steps of each sequence, in any order, on any device; 0 is allowed. After its end a sequence's outputs are 0
                and its state does not change.
            reset: where the state is set back to zeros, or to the learned state, and no gradient crosses. Bool (B,), before the first
                step; or (T, B), time first, before step t. The reverse direction is cut at the same places.

        Returns:
            The output, as in torch, and the last state of each sequence, at its own end.
        """
        if lengths is None and reset is None and not torch.compiler.is_compiling():
            found = short_packed(self, input, hx) if isinstance(input, PackedSequence) else short_call(self, input, hx)
            if found is not None:
                return found
        if isinstance(input, fx.Proxy) and type(self).forward is Layers.forward:
            return leaf(self, input, hx, {"lengths": lengths, "reset": reset})
        if torchs_own_answers(self, input, lengths, reset):
            return super().forward(input, hx)
        if isinstance(input, PackedSequence) and torch.compiler.is_compiling():
            return _untraced(self, input, hx, lengths, reset)  # pyright: ignore[reportCallIssue] the decorator says too little
        call = to_time_first(self, input, hx, lengths, reset)
        hs, last = self._run_layers(call)
        return to_caller_layout(self, call, hs, last)

    def _run_layers(self, call: TimeFirst) -> tuple[Tensor, State]:
        """Run the layers one after another, each in its directions."""
        dtype, answer = self._dtypes(call)
        below, state = call.xs.to(dtype), self._starting_state(call, dtype)
        suffixes, D = list(self._suffixes()), 2 if self.bidirectional else 1
        lasts: list[State] = []
        for k in range(0, len(suffixes), D):
            if k > 0 and self.dropout > 0:
                below = functional.dropout(below, self.dropout, self.training)
            outputs = []
            for direction in range(D):
                one = k + direction
                traversal = self._traversal(call, one, bool(direction), dtype)
                hs, last = call.run(self._layer(suffixes[one], dtype), below, tuple(s[one] for s in state), traversal)
                outputs.append(hs)
                lasts.append(last)
            below = outputs[0] if D == 1 else torch.cat(outputs, -1)
        if D == 1 and len(self.state_sizes()) == 1 and below.requires_grad:
            below = below.clone()  # torch's RNN and GRU give an output that may be changed in place; backward needs the h computed
        ends = tuple(s[0].unsqueeze(0) if len(s) == 1 else torch.stack(s) for s in zip(*lasts, strict=True))
        return below.to(answer), tuple(s.to(answer) for s in ends)

    def _layer(self, suffix: str, dtype: torch.dtype) -> Run:
        """One layer in one direction."""
        cell = self._step()
        W, R, b_ih, b_hh = (self._named(f"{name}_{suffix}", dtype) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        assert W is not None, "torch's modules have all their weights"
        assert R is not None, "as above"
        stored = Parameters(W, R, b_ih, b_hh)
        if not (self.proj_size or self.layer_norm or self.zoneout or (self.recurrent_dropout and self.training)):
            return lambda xs, state, way: recurrence(cell, xs, state, stored, traversal=way, memory=self.memory)
        parameters = stored.map(lambda p: p.unflatten(0, (cell.gates, self.hidden_size)))
        if self.layer_norm and isinstance(cell, LSTMStep):
            gain, offset = (self._named(f"{name}_{suffix}", dtype) for name in ("norm_c", "norm_c_bias"))
            assert gain is not None, "it was registered with layer_norm"
            assert offset is not None, "as above"
            cell = NormalisedLSTM(gain, offset)
        return lambda xs, state, way: unrolled(cell, xs, state, parameters, way, self._variation(suffix, xs, state, dtype))

    def _variation(self, suffix: str, xs: Tensor, state: State, dtype: torch.dtype) -> Variation:
        """The masks and gains of this call."""
        drop = self.recurrent_dropout if self.training else 0.0
        norms = [self._norm(self._named(f"{name}_{suffix}", dtype)) for name in ("norm_ih", "norm_hh")]
        return Variation(
            recurrent_mask=functional.dropout(torch.ones_like(state[0]), drop) if drop else None,
            normalise_wx=norms[0],
            normalise_rh=norms[1],
            projection=self._named(f"weight_hr_{suffix}", dtype),
            zoneout=tuple(self._zoneout_mask(xs, s) for s in state) if self.zoneout else None,
        )

    def _zoneout_mask(self, xs: Tensor, s: Tensor) -> Tensor:
        """(T, B, ·) 1 where a unit keeps its state; in evaluation the probability of that."""
        if not self.training:
            return s.new_full((1, 1, 1), self.zoneout)
        return torch.rand(len(xs), *s.shape, dtype=s.dtype, device=s.device).lt(self.zoneout).to(s.dtype)

    @staticmethod
    def _norm(gain: Tensor | None) -> Callable[[Tensor], Tensor] | None:
        return None if gain is None else lambda a: functional.layer_norm(a, gain.shape, gain)

    def _starting_state(self, call: TimeFirst, dtype: torch.dtype) -> State:
        """S tensors (L·D, B, ·) before the first step."""
        start = self._start(call.B, call.xs, dtype)
        if call.state is None:
            return start
        state = tuple(s.to(dtype) for s in call.state)
        if call.reset is None or call.reset.ndim == 2:
            return state
        return tuple(torch.where(call.reset.view(1, -1, 1), new, old) for new, old in zip(start, state, strict=True))

    def _start(self, B: int, like: Tensor, dtype: torch.dtype) -> State:
        """Zeros, or the learned state."""
        rows = len(list(self._suffixes()))
        sizes = self.state_sizes()
        if not self.learn_h0:
            return tuple(torch.zeros(rows, B, size, dtype=dtype, device=like.device) for size in sizes.values())
        return tuple(getattr(self, f"{name}_0").to(dtype).expand(-1, B, -1) for name in sizes)  # functional_call may have replaced it

    def _traversal(self, call: TimeFirst, one: int, reverse: bool, dtype: torch.dtype) -> Traversal:
        """The traversal of layer and direction number ``one``."""
        reset = call.reset if call.reset is not None and call.reset.ndim == 2 else None
        if reset is not None and reverse:  # a cut before step t comes after step t in this direction
            if call.lengths is not None:
                reset = reset & (torch.arange(len(reset), device=reset.device).unsqueeze(1) < call.lengths)
            reset = torch.cat((reset[1:], torch.zeros_like(reset[:1])))
        restart = None
        if reset is not None and self.learn_h0:
            restart = tuple(s[one] for s in self._start(call.B, call.xs, dtype))
        return Traversal(call.lengths, reset, restart, reverse)

    def _dtypes(self, call: TimeFirst) -> tuple[torch.dtype, torch.dtype]:
        """The dtypes of the computation and of the result. On the CPU, half precision is computed in float32, as no kernel supports it."""
        weight = self._named("weight_ih_l0", None)
        assert weight is not None, "torch's modules have all their weights"
        answer, on_cpu = weight.dtype, call.xs.device.type == "cpu"
        if answer != torch.float64 and autocasts(call.xs):
            answer = torch.get_autocast_dtype(call.xs.device.type)
            by_steps = call.is_ragged or (call.packed is not None and packed_lstm_keeps_precision())
            if on_cpu and (isinstance(self, nn.GRU) or (isinstance(self, nn.LSTM) and by_steps)):
                # torch's z ⊙ h, and f ⊙ c step by step, keep the precision of the state before the first step
                answer = torch.promote_types(answer, (call.xs if call.state is None else call.state[0]).dtype)
        halves = (torch.float16, torch.bfloat16)
        return torch.float32 if on_cpu and answer in halves else answer, answer

    # Names.

    def _named(self, name: str, dtype: torch.dtype | None) -> Tensor | None:
        """A parameter, or the tensor that a reparametrisation computes in its place."""
        found = getattr(self, name, None)
        return found if found is None or dtype is None else found.to(dtype)

    def _suffixes(self) -> list[str]:
        directions = ("", "_reverse") if self.bidirectional else ("",)
        return [f"l{layer}{direction}" for layer in range(self.num_layers) for direction in directions]

    def state_sizes(self) -> dict[str, int]:
        """The size of each state, by name."""
        sizes = {"h": self.proj_size or self.hidden_size}
        return sizes | {"c": self.hidden_size} if isinstance(self, nn.LSTM) else sizes

    def _options(self) -> dict[str, Any]:
        """The options beyond torch's that are not at their defaults."""
        names = ("learn_h0", "recurrent_dropout", "zoneout", "layer_norm", "state_batch_first", "memory")
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(Layers, name)}

    def beyond_torch(self) -> list[str]:
        """The options in use that torch's layer lacks. ``memory`` is left out, since it does not change the numbers."""
        return [name for name in self._options() if name != "memory"]

    def extra_repr(self) -> str:
        return ", ".join([super().extra_repr(), *(f"{name}={value!r}" for name, value in self._options().items())])

    def _to_torch(self, kind: type[nn.RNNBase], **options: Any) -> Any:
        """torch's module with the same weights."""
        if mine := self.beyond_torch():
            raise NotImplementedError(
                f"{kind_of(self)} has {', '.join(mine)}, which torch.nn.{kind.__name__} lacks. "
                "Only a layer without them can become one of torch's."
            )
        names = ("input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional")
        weight = self.get_parameter("weight_ih_l0")
        theirs: Any = kind  # each of the three has a signature of its own
        module = theirs(**{name: getattr(self, name) for name in names}, **options, device=weight.device, dtype=weight.dtype)
        with torch.no_grad():
            for name, p in module.named_parameters():
                p.copy_(getattr(self, name))
        return module.train(self.training)


@never_compiled
def _untraced(layer: Layers, packed: PackedSequence, hx: Any, lengths: Any, reset: Tensor | None) -> tuple[Any, Any]:
    """A call with packed sequences within a compiled model: what is to be done depends on their lengths, which a graph does not know."""
    return layer(packed, hx, lengths=lengths, reset=reset)


let_compile_see(Layers)
