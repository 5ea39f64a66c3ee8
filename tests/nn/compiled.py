"""Layers under torch.compile(fullgraph=True): one node a layer and direction, and the same numbers. Run by test_layers."""

import sys

import torch
from torch import nn

import throughtime as tt

T, B, I, H = 6, 4, 3, 5


def main() -> None:
    torch.manual_seed(0)
    tt.GRU(I, H)(torch.randn(T, B, I))[0].sum().backward()
    assert "torch._dynamo" not in sys.modules  # it takes a second to import, and nothing has asked for it
    for kind in (tt.RNN, tt.GRU, tt.LSTM):
        for options in ({}, {"num_layers": 2, "bidirectional": True, "batch_first": True}):
            layer = kind(I, H, **options)
            xs = torch.randn(B, T, I) if options else torch.randn(T, B, I)
            lengths = torch.tensor([6, 2, 3, 1])
            nodes: list[str] = []

            def look(graph, _, nodes=nodes):
                nodes.extend(str(n.target) for n in graph.graph.nodes if "throughtime" in str(n.target))
                return graph.forward

            torch._dynamo.reset()
            torch.compile(layer, fullgraph=True, backend=look)(xs, lengths=lengths)
            assert len(nodes) == (4 if options else 1), nodes
            compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
            results = []
            for module in (layer, compiled):
                layer.zero_grad()
                output, _ = module(xs, lengths=lengths)
                output.square().sum().backward()
                results.append([output, *(p.grad for p in layer.parameters())])
            assert all(torch.equal(a, b) for a, b in zip(*results, strict=True)), kind
    torch._dynamo.reset()
    try:  # torch's own are treated as ever
        torch.compile(nn.GRU(I, H), fullgraph=True, backend="aot_eager")(torch.randn(T, B, I))
    except torch._dynamo.exc.Unsupported:
        return
    raise AssertionError("torch's own layer was compiled")


if __name__ == "__main__":
    main()
