"""Out again: a model in a file that other runtimes read."""

from collections.abc import Mapping
from pathlib import Path

from .._check import InputError
from ..models import AbstractModel
from ._files import check_new_file, write_bytes


def export_onnx(model: AbstractModel, path: Path | str, *, about: Mapping[str, str] | None = None) -> None:
    """Write ``model``, as it is in evaluation mode, to a new ONNX file that onnxruntime runs to the same numbers.

    T and B are free from call to call. Going in:

    * ``tokens``: indices (T, B), int64, for ``Embedding`` and ``OneHot``; or ``inputs``: vectors (T, B, I), float32, for ``Vectors``.
    * ``h_in``, and ``c_in`` for LSTM: the states (L, B, H) to go on from; (L, 1, H) serves every stream. They may be left out: then
      every stream starts from the model's own initial state, be it zeros, given or learned. ``Random`` has none, and they must be passed.
      onnxruntime warns that such defaults are no constants, which is meant; ``SessionOptions.log_severity_level = 3`` leaves that out.

    Coming out:

    * ``logits``: o (T, B, V) where the head's output function is ``Softmax`` or ``SigmoidOutput``, which is left to the caller;
      or ``outputs``: the same where it is ``Linear``.
    * ``h_out``, ``c_out``: the states (L, B, H) after the last step, the next piece's ``h_in``, ``c_in``.

    A sequence in pieces gives what the whole gives. Facts about the model are in the file's ``metadata_props``.

    Args:
        model: a ``LanguageModel`` or ``SequenceModel`` of float32 weights.
        path: a file that is not there yet.
        about: more facts for ``metadata_props``.

    Raises:
        InputError: the package onnx is not installed, the path is taken or has no folder, the weights are not float32, or 2 GiB of them.
        NotImplementedError: ONNX's operators cannot express the cell, the activation, the input station or the output function.

    >>> import tempfile, throughtime as tt
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tt.export_onnx(tt.LanguageModel(65, hidden_size=32).float(), f"{folder}/model.onnx")
    """
    path = Path(path)
    check_new_file(path)
    try:
        from ..models.onnx import to_onnx
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise InputError(
            "the package onnx is not installed; expected it, as export to ONNX is built with it. "
            "Install it with: pip install 'throughtime[onnx]'."
        ) from None
    write_bytes(path, to_onnx(model, about or {}).SerializeToString(deterministic=True))
