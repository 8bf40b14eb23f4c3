"""``python -m genview.training.agent``: torchrun that ends with the job that started it."""

import os

from torch.distributed.run import main

from genview.parent import end_with_parent, told

if __name__ == "__main__":
    end_with_parent()
    os.environ.update(told({}))
    main()
