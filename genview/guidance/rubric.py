"""The rubric of GenView++ in our words, and the conversation in which a model is asked for a score."""

RUBRIC = """You rate how much a text-to-image prompt constrains the picture, from 1 to 4.

Count only constraints that are concrete enough to draw:
- which objects exactly: their kind, number, material;
- how they look: colour, texture, light;
- where they are: layout, place in the frame, viewpoint;
- what they do: actions, interactions;
- in which style: genre, period, culture, medium.
Feelings and abstractions do not count, and what is said twice counts once.

Scores:
1: no constraint; only broad kinds of things are named.
2: one to three constraints.
3: four to six constraints.
4: more than six different constraints.
"""
FORM = "Answer in the form [score: N], where N is 1, 2, 3 or 4, and nothing else.\n"
FORM_EXPLAINED = (
    "Answer in the form [score: N], where N is 1, 2, 3 or 4, followed by one sentence that lists the constraints.\n"
)
FORM_DIGIT = "Answer with one digit alone, 1, 2, 3 or 4, and nothing else.\n"
LOOK = "The picture that the prompt describes is shown, to settle what its words mean; rate the prompt.\n"
ANSWER_START = "[score: "
REMINDER = "That is not a score. Answer with [score: N] alone, where N is 1, 2, 3 or 4."


def question(caption: str, *, form: str = FORM, image: bool = False) -> list[dict]:
    """The conversation that asks for a caption's score: everything that all captions share comes first.

    There is no system turn, because many chat templates refuse one.
    """
    rules = f"{RUBRIC}\n{form}"
    prompt = f"\nPrompt: {caption.strip()}"
    if not image:
        return [{"role": "user", "content": rules + prompt}]
    content = [{"type": "text", "text": rules + LOOK}, {"type": "image"}, {"type": "text", "text": prompt}]
    return [{"role": "user", "content": content}]


def reminded(conversation: list[dict], answer: str) -> list[dict]:
    """The conversation after an answer without a score: quoted, and asked again.

    The same question would get the same answer, because decoding is greedy.
    """
    said, asked = ({"role": "assistant", "content": answer}, {"role": "user", "content": REMINDER})
    if isinstance(conversation[0]["content"], list):
        said, asked = ({**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in (said, asked))
    return [*conversation, said, asked]
