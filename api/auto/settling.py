"""Puts the model that `auto` chooses into a request that names it; any other request is left as it is."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from api.answers.question import Grounding, Question
from api.answers.recipe import Recipe
from api.auto.auto import AUTO, Auto
from api.auto.reading import Read, read
from core.principal import Principal
from router.call import Operation

if TYPE_CHECKING:
    from api.state import AppState


async def settled_body(
    auto: Auto | None, principal: Principal, body: dict[str, Any], operation: Operation
) -> dict[str, Any]:
    """The same request to a model that there is.

    Args:
        body: of a chat, a completion or a message, with all that is said in it.
    """
    model = await settled(auto, principal, body.get("model"), body, operation)
    return body if model is body.get("model") else {**body, "model": model}


async def settled(
    auto: Auto | None,
    principal: Principal,
    model: object,
    body: Mapping[str, Any],
    operation: Operation = "chat.completions",
) -> object:
    """The model that is to answer this body, where `model` is the one that was named."""
    if auto is None or model != AUTO:
        return model
    return (await auto.choose(principal, read(body), operation, body)).group


async def settled_question(state: "AppState", principal: Principal, question: Question) -> Question:
    """The question to a model that there is, and to larger ones where its answer is not supported.

    An answer that is held against its sources is begun by the cheapest model: what is asked stands in the documents,
    and where it does not do, the next one is asked before anything is told.

    Raises: as `Recipes.of`.
    """
    auto, settings = state.auto, state.settings
    if auto is None or (question.model or settings.answer_model) != AUTO:
        return question
    said = await state.recipes.of(principal, question.collection)
    principal = principal.within(said.reach)
    recipe = said.over(Recipe.of(settings)).asked(question)
    if recipe.verify is Grounding.STRICT:
        chosen = auto.cheapest(principal)
    else:
        earlier = [turn.content for turn in question.turns if turn.role == "user"]
        chosen = await auto.choose(principal, Read((*earlier[-2:], question.text)))
    return replace(question, model=chosen.group, larger=chosen.larger)
