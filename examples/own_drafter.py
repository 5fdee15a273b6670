"""A complete drafter in twenty lines, checked: python examples/own_drafter.py"""

from outpace import Budget, Context, Decoder, Drafter, TokenTree
from outpace.drawing import Drawing
from outpace.testing import check_drafter, tiny_model


class SuccessorDrafter(Drafter):
    """Drafts after each token the one that followed it last time."""

    def start(self, context: Context, *, resume: bool = False) -> None:
        self._after: dict[int, int] = {}
        self._read = 0

    def propose(self, context: Context, budget: Budget, drawing: Drawing) -> TokenTree:
        tokens = context.tokens
        for place in range(self._read, len(tokens) - 1):
            self._after[tokens[place]] = tokens[place + 1]
        self._read = len(tokens) - 1
        drafted: list[int] = []
        token = self._after.get(tokens[-1])
        while token is not None and len(drafted) < min(budget.depth, budget.nodes):
            drafted.append(token)
            token = self._after.get(token)
        return TokenTree.chain(tokens[-1], drafted)


def main() -> None:
    check_drafter(SuccessorDrafter, new_tokens=6)
    print("check_drafter: valid trees, the text of plain decoding")
    decoder = Decoder(tiny_model(), SuccessorDrafter())
    stats = decoder.generate("to be or not to be", max_new_tokens=60).stats
    print(f"{stats.accepted} of {stats.drafted} draft tokens accepted in {stats.rounds} rounds")


if __name__ == "__main__":
    main()
