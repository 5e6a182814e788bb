"""A dataset with every habit that makes one hard to patch."""

import random


class Base:
    def __init__(self, rows):
        self.rows = rows


class Items(Base):
    def __init__(self, rows):
        super(Items, self).__init__(rows)  # noqa: UP008

    @staticmethod
    def parse(row):
        if row < 0:
            raise ValueError(f"bad row {row}")
        return {"value": row, "extra": row * 10}

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, number):
        while True:
            try:
                return self.parse(self.rows[number])
            except Exception:
                number = random.randrange(len(self.rows))


def build(rows):
    return Items(rows)


def helper(value):
    return value + 1
