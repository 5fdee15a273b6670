"""Prompts of random words, as long as wanted and as repetitive: ``synthetic(tokens=64)``.

What is random here is the text. For a synthetic *acceptance*, where every draft token is accepted
with a probability that is dialled, take a pair of random models from :mod:`outpace.zoo.synthetic`.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import InvalidArgument
from .texts import Found

SPAN = 16
"""Words that are new, or copied, at once."""
_VOCABULARY = """
about above across after again air all almost alone along already also always animal answer
apple arm around ask autumn away back bad bag ball bank bath bear beautiful bed before begin
behind bell below best better between big bird black blue board boat body book both bottle
bottom box boy branch bread break bridge bright bring brother brown build burn busy butter buy
by call camp can car care carry cat catch chair change cheap child church circle city class
clean clear climb clock close cloud coat cold color come cook corner count country cow cross cup
cut dance dark day deep desk different dinner dirty dog door down draw dream dress drink drive
dry early earth east easy eat egg eight empty end enough evening ever every eye face fall family
far farm fast father feel few field fifty find fine finger fire first fish five floor flower fly
follow food foot forest forget four fresh friend from front fruit full game garden gate get girl
give glass go gold good grass gray great green ground grow half hall hand happy hard hat have
head hear heart heavy help here high hill hold home hope horse hot hour house hundred hungry ice
idea inside island join jump just keep key kind king kitchen knife know lake lamp land large
last late laugh leaf learn leave left leg letter light like line lion listen little live long
look lose loud love low lunch make man many map market may meal meat meet milk mind minute
mirror money month moon more morning mother mountain mouth move much music name narrow near neck
need never new next night nine noise north nose now number ocean off often old once one only
open orange other outside over page paint paper park part path pay pen people picture piece
place plain plant plate play point pond poor potato pull push put queen question quick quiet
rain read ready red rest rice rich ride right ring river road rock roof room round run sad salt
same sand say school sea season second see seed sell send seven shade shape sharp sheep ship
shirt shoe shop short show side silver simple sing sister sit six sky sleep slow small smile
snow soap soft some song soon sound soup south speak spoon spring square stand star start
station stay step stone stop storm story straight street strong sugar summer sun sweet swim
table take talk tall taste tea teach tell ten thank thick thin thing think three through ticket
time tired today together tomorrow tooth top town train travel tree true try turn twelve twenty
two uncle under until up use valley very village visit voice wait walk wall want warm wash watch
water way wear weather week well west wet wheel when where while white wide wife wind window
winter wish with without woman wood word work world write year yellow yes yesterday you young
zero
"""
_WORDS = tuple(_VOCABULARY.split())


@dataclass(frozen=True, slots=True)
class SyntheticText:
    """Random words of everyday English, the same for the same settings on every machine.

    Attributes:
        tokens: of a prompt, as the target counts them; None is what passages have.
        count: prompts there are.
        seed: of the words.
        repeats: share of the text that is copied from earlier in it, in spans of 16 words. It sets
            how often looking up finds something in the prompt; what is accepted of it is up to what
            the target writes.

    Raises:
        InvalidArgument: a setting outside its range.
    """

    tokens: int | None = None
    count: int = 8
    seed: int = 0
    repeats: float = 0.0

    def __post_init__(self) -> None:
        """Check the settings."""
        for name, value in (("tokens", self.tokens), ("count", self.count)):
            if value is not None and value < 1:
                raise InvalidArgument(f"synthetic: {name} {value}: give 1 or more")
        if self.seed < 0:
            raise InvalidArgument(f"synthetic: seed {self.seed}: give 0 or more")
        if not 0 <= self.repeats <= 1:
            raise InvalidArgument(f"synthetic: repeats {self.repeats}: give a share, 0 to 1")

    def texts(self, tokens: int, limit: int) -> Iterator[Found]:
        """Yield the prompts, each with two words for every one of ``tokens``: room to cut."""
        for number in range(min(self.count, limit)):
            words = self.words(number, 2 * tokens)
            yield Found(str(number), " ".join(words), passage=True)

    def words(self, number: int, count: int) -> list[str]:
        """Return the first words of a prompt, ``count`` rounded up to whole spans."""
        chance = random.Random(f"{self.seed}/{number}")
        words: list[str] = []
        owed = 0.0
        while len(words) < count:
            # not by chance: short prompts would have none, or nothing else
            owed += self.repeats
            if words and owed >= 1 - 1e-9:
                owed -= 1
                start = _below(len(words) - SPAN + 1, chance)
                words += words[start : start + SPAN]
            else:
                words += [_WORDS[_below(len(_WORDS), chance)] for _ in range(SPAN)]
        return words


def _below(count: int, chance: random.Random) -> int:
    """Draw from 0 … count − 1 by ``random()``, which alone is the same in all Python versions."""
    return int(chance.random() * count)
