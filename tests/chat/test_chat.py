"""Methods answer in turn; what a session holds is never computed again; nothing is lost."""

from dataclasses import replace
from pathlib import Path

import pytest
from talking import TEMPLATE, Counted, Loads, Start, ask, finished

from outpace.chat import METHODS, Chat, Conversation, Methods, NgramStorage, totals
from outpace.errors import ContextFull, InvalidArgument, OutpaceError, PromptError, UnknownName
from outpace.recipe import Recipe
from outpace.sampling import Sampling

KINDS = pytest.mark.parametrize("template", [None, TEMPLATE], ids=["plain", "template"])


def computed(chat: Chat, message: str | None) -> int:
    """How many tokens the target computes until the first token of an answer is there."""
    counted = Counted(chat.target)
    answering = chat.answer("target", message)
    next(iter(answering))
    done = sum(counted.widths)
    del chat.target.forward  # type: ignore[attr-defined]
    for _ in answering:
        pass
    chat.keep(message, [answering.reply])
    return done


@KINDS
def test_a_second_turn_computes_only_what_is_new(start: Start, template: str | None) -> None:
    chat = start("target", template=template)
    first = computed(chat, "the cat and the dog")
    reply = chat.replies[0]
    assert first == reply.prompt_length
    second = computed(chat, " and")
    new = chat.replies[0]
    # the last token of an answer was written, not computed
    assert second == new.prompt_length - reply.prompt_length - 11
    assert new.held == first + 11
    assert second == len("U: and\nA:") + len("\n") + 2 if template else len(" and") + 1
    # the negative control: without sessions everything is computed
    chat.keeps_cache = False
    third = computed(chat, " then")
    assert third == chat.replies[0].prompt_length
    assert chat.replies[0].held == 0


@KINDS
def test_undo_an_edit_and_clear_keep_the_beginning(start: Start, template: str | None) -> None:
    chat = start("target", template=template)
    chat.conversation = Conversation("be brief, be kind, be honest")
    system = computed(chat, "the cat")
    before = chat.conversation
    computed(chat, " and the dog")
    assert chat.undo() == "the last message"
    assert chat.conversation is before
    edited = computed(chat, " and the bird")
    common = len(" and the ") if not template else len("\nU: and the ") + 1
    rest = len("bird") if not template else len("bird\nA:")
    assert edited <= rest + 1
    assert chat.replies[0].held >= chat.replies[0].prompt_length - rest - 1
    assert common > 0
    chat.change("the clearing", replace(chat.conversation, exchanges=()))
    assert computed(chat, "the cow") <= len("ow\nA:") + 1 < system
    assert chat.undo() == "the last message"
    assert chat.undo() == "the clearing"
    assert len(chat.conversation) == 2


@KINDS
def test_all_methods_answer_alike(start: Start, template: str | None) -> None:
    chat = start(*METHODS, template=template)
    for message in ("the cat and the dog", " and the cat", " and"):
        target, speculative, ngram, drafter = ask(chat, message)
        for one in (speculative, ngram):
            assert one.output.tokens == target.output.tokens
            assert one.differs_at(target) is None
            assert one.same_text
            assert one.held == target.held
        assert drafter.method == "drafter"
        assert chat.conversation.exchanges[-1].answer == target.output.text
    assert speculative.stats.drafted > 0
    # the negative control: another model writes another text, and it shows
    chat.use(chat.methods.recipe.but(drafter="stranger"))
    replies = ask(chat, " and so")
    assert replies[3].differs_at(replies[0]) is not None


def test_sampling_is_seeded_before_each_answer(start: Start) -> None:
    chat = start("target", "speculative", sampling=Sampling(temperature=1.0, seed=42))
    plain, drafted = ask(chat, "the cat")
    assert plain.output.tokens == drafted.output.tokens
    assert plain.stats.seed == drafted.stats.seed == 42
    chat.undo()
    assert ask(chat, "the cat")[0].output.tokens == plain.output.tokens
    chat.undo()
    chat.sampling = replace(chat.sampling, seed=7)
    assert ask(chat, "the cat")[0].output.tokens != plain.output.tokens


@pytest.mark.parametrize("method", METHODS)
def test_an_answer_that_is_stopped_is_kept(start: Start, method: str) -> None:
    chat, whole = start(method), start(method)
    ask(chat, "the cat")
    model = chat.methods[method].target
    counted = Counted(model, interrupt=4)
    answering = chat.answer(method, " and")
    with pytest.raises(KeyboardInterrupt):
        finished(answering)
    del model.forward  # type: ignore[attr-defined]
    reply = answering.reply
    assert reply.interrupted
    assert len(counted.widths) == 4
    assert chat.keep(" and", [reply]) == reply
    assert chat.conversation.exchanges[1].answer == reply.output.text
    # the session is as it was: the next answer computes what is new, and is the same text
    counted = Counted(model)
    [more] = ask(chat, None)
    assert counted.widths[0] <= 1 + len(reply.output.tokens)
    assert more.held > 0
    ask(whole, "the cat")
    [expected] = ask(whole, " and")
    written = reply.output.tokens + more.output.tokens
    assert written[: len(expected.output.tokens)] == expected.output.tokens


def test_nothing_written_is_nothing_kept(start: Start) -> None:
    chat = start("target")
    answering = chat.answer("target", "the cat")
    assert chat.keep("the cat", [answering.reply]) is None
    assert chat.conversation == Conversation()
    assert chat.replies == []
    assert chat.undo() is None


@KINDS
def test_more_goes_on_with_the_answer(start: Start, template: str | None) -> None:
    chat, whole = start("target", template=template), start("target", template=template, length=24)
    ask(chat, "the cat")
    ask(chat, None)
    ask(whole, "the cat")
    assert chat.conversation == whole.conversation
    assert len(chat.conversation) == 1
    assert chat.undo() == "going on"
    assert len(chat.conversation.exchanges[0].tokens) == 12


def test_a_method_that_is_new_holds_what_another_does(start: Start) -> None:
    chat = start("target")
    ask(chat, "the cat and the dog")
    chat.enable(("target", "ngram"))
    target, ngram = ask(chat, " and")
    assert target.held == ngram.held > 0
    chat.enable(("ngram",))
    assert chat.session("target") is None
    held = chat.kv_bytes
    chat.drop_sessions()
    assert chat.kv_bytes == 0 < held


def test_a_context_that_is_full(start: Start) -> None:
    chat = start("target", length=1000)
    [reply] = ask(chat, "the cat")
    assert reply.stats.end in {"context", "eos"}
    chat.conversation = Conversation().answered("a" * 509, "b")
    with pytest.raises(ContextFull, match="has 512 tokens with this, one takes 512"):
        chat.answer("target", "c")
    chat.change("the forgetting", chat.conversation.without_first(1))
    assert ask(chat, "c")[0].stats.new_tokens


def test_used(start: Start) -> None:
    chat = start("target")
    assert chat.used == 0
    ask(chat, "the cat")
    assert chat.used == len("the cat") + 12


def test_models_are_loaded_once_and_given_back(start: Start, loads: Loads) -> None:
    chat = start("speculative", "drafter")
    assert loads.names == ["one", "other"]
    ask(chat, "the cat")
    session, drafter = chat.session("speculative"), chat.methods["speculative"].drafter
    chat.use(chat.methods.recipe.but(draft_length=2))
    assert chat.methods["speculative"].drafter is drafter
    chat.use(chat.methods.recipe.but(tree="best_first"))
    assert loads.names == ["one", "other"]
    assert chat.session("speculative") is session
    chat.use(chat.methods.recipe.but(drafter="third"))
    assert loads.names == ["one", "other", "third"]
    chat.use(chat.methods.recipe.but(drafter="other"))
    assert loads.names[-1] == "other"
    assert ask(chat, " and")[0].held > 0


def test_what_fails_changes_nothing(start: Start) -> None:
    chat = start("speculative", "drafter")
    ask(chat, "the cat")
    recipe, enabled = chat.methods.recipe, chat.methods.enabled
    with pytest.raises(InvalidArgument, match="has no model that could write by itself"):
        chat.use(recipe.but(drafter="prompt-lookup"))
    with pytest.raises(RuntimeError, match="cannot be read"):
        chat.use(recipe.but(drafter="broken"))
    for part, value in (("draft_length", -1), ("tree", "oak"), ("verifier", "none")):
        with pytest.raises(OutpaceError):
            chat.use(recipe.but(**{part: value}))
    with pytest.raises(UnknownName, match="did you mean 'ngram'"):
        chat.enable(("ngrm",))
    with pytest.raises(InvalidArgument):
        chat.methods.count(NgramStorage(order=1))
    with pytest.raises(InvalidArgument, match="has no chat template"):
        chat.template = True
    assert (chat.methods.recipe, chat.methods.enabled) == (recipe, enabled)
    assert ask(chat, " and")[0].held > 0


def test_another_target_is_told_the_text(start: Start) -> None:
    chat = start("target", template=TEMPLATE)
    ask(chat, "the cat")
    chat.use(chat.methods.recipe.but(target="two"))
    assert chat.session("target") is None
    assert chat.conversation.exchanges[0].tokens  # the same tokenizer
    [reply] = ask(chat, "and")
    assert reply.held == 0
    assert chat.target.name == "two"


def test_ngram_storage(start: Start) -> None:
    chat = start("ngram")
    ask(chat, "the cat and the cat and the cat")
    assert chat.methods["ngram"].drafter.store.sizes != (1,)  # type: ignore[attr-defined]
    chat.methods.count(NgramStorage(order=2, multilevel=False, fillers=0, keep=True))
    store = chat.methods["ngram"].drafter.store  # type: ignore[attr-defined]
    assert tuple(store.sizes) == (1,)
    assert len(store) == 0  # what warming up taught is forgotten
    ask(chat, " and")
    kept = len(store)
    assert kept > 0
    ask(chat, " cow")
    assert len(store) > kept


def test_totals(start: Start) -> None:
    chat = start("target", "speculative")
    ask(chat, "the cat")
    chat.enable(("speculative",))
    ask(chat, " and")
    plain, drafted = totals(chat.turns, "target")
    assert (plain.messages, drafted.messages) == (1, 2)
    assert drafted.new_tokens == 24
    [[first, second], [alone]] = chat.turns
    assert drafted.drafted == second.stats.drafted + alone.stats.drafted
    assert drafted.gain == pytest.approx(second.gain(first))
    assert drafted.acceptance_rate == drafted.accepted / drafted.drafted
    assert drafted.mean_acceptance_length == drafted.emitted / drafted.rounds
    assert totals([], "target") == []


def test_a_gain_that_says_nothing_is_none(start: Start) -> None:
    chat = start("target", "speculative")
    plain, drafted = ask(chat, "the cat")
    assert drafted.gain(plain) == pytest.approx(
        drafted.stats.tokens_per_second / plain.stats.tokens_per_second
    )
    assert replace(drafted, interrupted=True).gain(plain) is None
    assert replace(drafted, runtime="compile").gain(plain) is None
    assert replace(drafted, runtime="eager → compile").gain(plain) is None
    shorter = replace(drafted, output=replace(drafted.output, tokens=plain.output.tokens[:3]))
    assert shorter.differs_at(plain) == 3
    assert replace(shorter, interrupted=True).differs_at(plain) is None


def test_making_the_prompt_is_part_of_the_first_token(start: Start) -> None:
    chat = start("target")
    answering = chat.answer("target", "the cat")
    answering._wording = 5.0
    reply = finished(answering)
    assert reply.stats.ttft > 5
    assert reply.stats.total > reply.stats.ttft


def test_a_stop_text_ends_an_answer(start: Start) -> None:
    chat = start("target")
    [reply] = ask(chat, "the cat")
    mark = reply.output.text[4:6]
    other = start("target", stop=(mark,))
    [cut] = ask(other, "the cat")
    assert cut.stats.end == "stop"
    assert mark not in other.conversation.exchanges[0].answer
    assert other.conversation.exchanges[0].tokens == ()


def test_what_no_chat_can_be(loads: Loads, tmp_path: Path) -> None:
    methods = Methods(Recipe(target="one", drafter="other", dtype="float32"), load=loads)
    with pytest.raises(InvalidArgument, match="0 new tokens"):
        Chat(methods, length=0)
    methods.target.tokenizer = None
    with pytest.raises(PromptError, match="has no tokenizer"):
        Chat(methods)
