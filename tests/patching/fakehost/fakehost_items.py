"""The dataset one class further; importable, so it pickles into worker processes."""

from fakehost.data import Items


class SamaItems(Items):
    def __getitem__(self, number):
        row = self.rows[number]
        return {"value": -row, "extra": "ours"} if row == 2 else super().__getitem__(number)
