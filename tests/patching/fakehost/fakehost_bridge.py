"""A bridge as another package would bring one: by entry points, for its own host."""

from sama_plugin.patching.patch import Patch, apply


def claims(target):
    return "a fake host" if target.module == "fakehost.train.run" else None


def install(ledger, options):
    def finish(script):
        import fakehost_items

        def made(original):
            def build(rows):
                data = original(rows)
                ledger.swap_class(data, fakehost_items.SamaItems, "reads our rows")
                return data

            return build

        def forward(_):
            def forward(self, value=None, extra=None):
                return value

            return forward

        target = script.__name__
        apply(
            [
                Patch(
                    "fake.build",
                    f"{target}:build",
                    "our rows",
                    made,
                    needs=(f"{target}:main", "build"),
                ),
                Patch(
                    "fake.forward", f"{target}:Model.forward", "names the key", forward, "replace"
                ),
                Patch("fake.missing", f"{target}:missing", "supplies it", lambda _: 1, "add"),
            ],
            ledger,
            allow=options.allow_unverified,
        )

    return finish
