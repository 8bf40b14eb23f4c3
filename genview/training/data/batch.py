"""What a step is given: the views of a batch in groups of one size, and what is known of the images and captions."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from genview.training.data.develop import Developer


@dataclass(frozen=True)
class Group:
    """The views of one size; a batch has a group per crop size.

    Attributes:
        views: float32 [V_g, B, 3, S_g, S_g], normalised for the model that is trained.
        clean: the same crops before their colours were changed, alike in shape; None where nothing asks for them.
        slots: V_g numbers, rising: each view's place among the crops of all slots, counted from 0 in their order.
        generated: bool [V_g, B]: the view was cut from a generated image (False where the original stood in for one).
    """

    views: Tensor
    clean: Tensor | None
    slots: tuple[int, ...]
    generated: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> "Group":
        """The group with every tensor changed."""
        clean = None if self.clean is None else change(self.clean)
        return replace(self, views=change(self.views), clean=clean, generated=change(self.generated))


@dataclass(frozen=True)
class Crops:
    """A group before the second half of augmentation: a third of the bytes.

    Attributes:
        pixels: uint8 [V_g, B, 3, S_g, S_g].
        numbers: float32 [V_g, B, ...], drawn for each view.
        developer: makes the views.
        slots, generated: as in ``Group``.
    """

    pixels: Tensor
    numbers: Tensor
    developer: Developer
    slots: tuple[int, ...]
    generated: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> "Crops":
        """The crops with every tensor changed."""
        return replace(self, pixels=change(self.pixels), numbers=change(self.numbers), generated=change(self.generated))

    def developed(self) -> Group:
        """The views, made where the pixels are."""
        views, clean = self.developer(self.pixels, self.numbers)
        return Group(views, clean, self.slots, self.generated)


@dataclass
class Batch:
    """One process's microbatch of a step.

    Attributes:
        keys: B names.
        groups: the views, ordered by their slots; one group per crop size. ``Crops`` until ``developed``.
        text: token ids [B, L]; None without captions.
        original_background: [B, D] of the quality encoder; caption_embedding: [B, E]; None where not needed.
        fallbacks: generated views that were missing and replaced by the original.
    """

    keys: list[str]
    groups: tuple[Group, ...]
    text: Tensor | None = None
    original_background: Tensor | None = None
    caption_embedding: Tensor | None = None
    fallbacks: int = 0

    @property
    def _only(self) -> Group:
        if len(self.groups) != 1:
            raise ValueError(f"the batch has {len(self.groups)} groups of views, not one")
        return self.groups[0]

    @property
    def views(self) -> Tensor:
        """The views [V, B, 3, S, S] of a batch whose views have all one size."""
        return self._only.views

    @property
    def clean(self) -> Tensor | None:
        """The clean crops of a batch whose views have all one size."""
        return self._only.clean

    @property
    def count(self) -> int:
        """V: views of a sample, of all sizes."""
        return sum(len(group.slots) for group in self.groups)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with every tensor changed."""
        values = {name: change(value) if isinstance(value, Tensor) else value for name, value in vars(self).items()}
        return Batch(**{**values, "groups": tuple(group.map(change) for group in self.groups)})

    def developed(self) -> "Batch":
        """The batch with its views made, where its pixels are."""
        groups = (group.developed() if isinstance(group, Crops) else group for group in self.groups)
        return replace(self, groups=tuple(groups))

    def pin_memory(self) -> "Batch":
        """In page-locked memory (called by the loader)."""
        return self.map(Tensor.pin_memory)
