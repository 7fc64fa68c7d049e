"""A world of one's own, in one class: a few digits are asked, and are to be said in order."""

from collections.abc import Callable, Sequence

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from clew.tree import SpanTree
from clew.world import Figures, Look, Question, Stop, World

WORDS = ["<pad>", "<end>", "<so>", *"0123456789"]


def right_places(completions: list[str], digits: list[str], **_: object) -> list[float]:
    both = zip(map(str.split, completions), map(sorted, digits), strict=True)
    return [sum(map(str.__eq__, said, right)) / len(right) for said, right in both]


class Sorting(World):
    """Thoughts say the digits backwards, answers in order. Every seventh number is held out."""

    headline = "sorted"

    def __init__(self, tokenizer: PreTrainedTokenizerBase | None = None, seed: int = 0, digits: int = 3):
        words = models.WordLevel({word: i for i, word in enumerate(WORDS)}, "<pad>")
        own = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), pad_token="<pad>", eos_token="<end>")
        self.tokenizer, self.texts = tokenizer or own, [f"{number:0{digits}}" for number in range(10**digits)]
        self.thought_stop, self.answer_stop, self.thought_end = Stop((2,)), Stop((1,)), [2]

    def ids(self, *words: str) -> list[int]:
        return self.tokenizer.convert_tokens_to_ids(list(words))  # type: ignore[return-value]

    def text(self, tokens: Sequence[int]) -> str:
        return " ".join(self.tokenizer.convert_ids_to_tokens(list(tokens)))

    def questions(self, numbers: Sequence[int], held_out: bool = False) -> list[Question]:
        texts, made = [text for i, text in enumerate(self.texts) if (i % 7 == 0) == held_out], []
        for text in (texts[number * 7919 % len(texts)] for number in numbers):
            labels = {"first": "high" if text[0] > "4" else "low"}
            room = (len(text) + 1,) * 2
            made.append(Question(text, self.ids(*text), *room, {"digits": text}, labels, held_out=held_out))
        return made

    def held_out(self, numbers: Sequence[int], look: Look = "final", seed: int = 0) -> list[Question]:
        return self.questions(numbers, held_out=True)

    def demonstrations(self, numbers: Sequence[int]) -> list[SpanTree]:
        return [self.demonstration(question.prompt) for question in self.questions(numbers)]

    def demonstration(self, digits: str) -> SpanTree:
        answer = SpanTree(self.ids(*sorted(digits), "<end>"), "answer", 1.0)
        thought = SpanTree(self.ids(*sorted(digits)[::-1], "<so>"), "thought", 1.0, [answer])
        return SpanTree(self.ids(*digits), "prompt", 0.0, [thought])

    def grader(self) -> Callable[..., list[float]]:
        return right_places

    def measure(self, question: Question, thought: str | None, answer: str) -> Figures:
        return {"sorted": answer.split() == [*sorted(question.prompt), "<end>"]}
