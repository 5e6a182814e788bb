"""ms-swift 4: let batches that carry the plugin's data through, as an external plugin file.

ms-swift turns a multimodal batch into `inputs_embeds` by a hook on the model that passes on the
inputs it knows and no others. The plugin's batches are ready for the host already: they go through
untouched.
"""

from __future__ import annotations

import functools

from swift.template.base import Template

hook = Template.pre_forward_hook


@functools.wraps(hook)
def pre_forward_hook(self, model, args, kwargs):
    return (args, kwargs) if "sama" in kwargs else hook(self, model, args, kwargs)


Template.pre_forward_hook = pre_forward_hook
