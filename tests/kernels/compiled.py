"""A recurrence under torch.compile(fullgraph=True): one node, and the same numbers. Run by test_operators."""

import torch

from throughtime.cells import GRU, LSTM, Elman, zoo
from throughtime.kernels import Parameters, Traversal, recurrence

T, B, I, H = 5, 3, 2, 4


def main() -> None:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    for cell in (Elman(), GRU(), LSTM(), zoo.MinGRU(), zoo.ResetBeforeGRU()):
        torch.compiler.reset()  # all cells come by the same code, which may be compiled only so often
        G, rows, S = cell.gates, cell.rh_gates, cell.states
        shapes = [(T, B, I), (G, H, I), (rows, H, H), (G, H), (rows, H), *[(B, H)] * 2 * S]
        lengths, reset = torch.tensor([5, 2, 0]), torch.rand(T, B) < 0.3

        def run(*tensors, cell=cell, S=S, lengths=lengths, reset=reset):
            xs, *weights = tensors[:5]
            walk = Traversal(lengths, reset, tensors[5 + S :], True)
            hs, last = recurrence(cell, xs, tensors[5 : 5 + S], Parameters(*weights), traversal=walk)
            return hs, *last

        nodes: list[str] = []

        def look(graph, _, nodes=nodes):
            nodes.extend(str(n.target) for n in graph.graph.nodes if n.op == "call_function" and "throughtime" in str(n.target))
            return graph.forward

        tensors = [torch.randn(shape) for shape in shapes]
        traced = [x.clone().requires_grad_() for x in tensors]
        torch.compile(run, fullgraph=True, backend=look)(*traced)
        assert len(nodes) == 1, nodes
        compared = []
        for function in (run, torch.compile(run, fullgraph=True, backend="aot_eager")):
            leaves = [x.clone().requires_grad_() for x in tensors]
            outputs = function(*leaves)
            torch.manual_seed(1)
            compared.append([*outputs, *torch.autograd.grad(outputs, leaves, [torch.randn_like(y) for y in outputs])])
        for a, b in zip(*compared, strict=True):
            assert torch.equal(a, b), cell


if __name__ == "__main__":
    main()
