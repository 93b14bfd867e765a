"""Write the sample data of the sales-report package: twelve monthly CSV files and a product table.

The shop is invented. The same seed always writes the same bytes. The files carry the blemishes
that real exports have; `BLEMISHES` names them all.

    python examples/data/generate_sales.py
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

YEAR = 2025
SEED = 20250101
SALES_HEADER = "order_id,date,region,sku,quantity,unit_price"
PRODUCTS_HEADER = "sku,name,category,unit_cost"

ORDERS_PER_MONTH = (205, 190, 215, 225, 240, 230, 200, 210, 235, 250, 300, 360)
DAYS_PER_MONTH = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
REGIONS = {"Coast": 34, "Hills": 21, "Lakes": 27, "Plains": 18}
QUANTITIES = {1: 62, 2: 24, 3: 8, 4: 4, 6: 2}
LINES_PER_ORDER = {1: 58, 2: 29, 3: 13}
REFUND_SHARE = 0.02

BLEMISHES = {
    "2025-03": "one order appears twice",
    "2025-04": "an order of 2025-03 was exported again",
    "2025-06": "a row has no price",
    "2025-08": "dates are written as day.month.year",
    "2025-09": "a date that does not exist (31 September)",
    "2025-10": "a quantity in letters and a product that the table does not know",
    "2025-11": "prices have a thousands separator",
}


@dataclass(frozen=True)
class Product:
    sku: str
    name: str
    category: str
    price: float
    cost: float
    weight: int


@dataclass(frozen=True)
class Line:
    """One row of a sales file; everything is the text that will be written."""

    order_id: str
    date: str
    region: str
    sku: str
    quantity: str
    unit_price: str

    def text(self) -> str:
        price = f'"{self.unit_price}"' if "," in self.unit_price else self.unit_price
        fields = (self.order_id, self.date, self.region, self.sku, self.quantity, price)
        return ",".join(fields)


PRODUCTS = (
    Product("TEA-01", "Breakfast blend, 250 g", "Tea", 8.90, 3.10, 48),
    Product("TEA-02", "Smoked green, 100 g", "Tea", 11.50, 4.60, 30),
    Product("TEA-03", "Mountain mint, 80 g", "Tea", 6.40, 1.90, 39),
    Product("TEA-04", "Tasting box, 12 tins", "Tea", 42.00, 18.50, 15),
    Product("CUP-01", "Stoneware mug", "Tableware", 16.00, 6.20, 36),
    Product("CUP-02", "Glass teapot, 1 l", "Tableware", 34.50, 14.80, 18),
    Product("CUP-03", "Oak tray", "Tableware", 49.00, 22.00, 12),
    Product("PAP-01", "Linen notebook", "Stationery", 14.20, 5.10, 33),
    Product("PAP-02", "Letter set, 20 sheets", "Stationery", 19.90, 7.40, 21),
    Product("PAP-03", "Brass pen", "Stationery", 58.00, 27.50, 12),
    Product("HOM-01", "Beeswax candle", "Home", 12.80, 4.90, 27),
    Product("HOM-02", "Wool blanket", "Home", 119.00, 61.00, 9),
    Product("HOM-03", "Reading lamp", "Home", 149.00, 78.00, 6),
    Product("HOM-04", "Walnut writing desk", "Home", 1250.00, 690.00, 1),
)


def generate(seed: int = SEED) -> dict[str, str]:
    """All files as text, by their path below the data folder."""
    generator = random.Random(seed)
    months = {
        f"{YEAR}-{month:02}": month_lines(generator, month)
        for month in range(1, len(DAYS_PER_MONTH) + 1)
    }
    add_blemishes(months)
    files = {f"sales/{name}.csv": sales_text(lines) for name, lines in months.items()}
    return {"products.csv": products_text(), **files}


def month_lines(generator: random.Random, month: int) -> list[Line]:
    """The orders of one month by date, with refunds among them."""
    length = DAYS_PER_MONTH[month - 1]
    days = sorted(1 + int(generator.random() * length) for _ in range(ORDERS_PER_MONTH[month - 1]))
    lines: list[Line] = []
    for number, day in enumerate(days, start=1):
        order = order_lines(generator, f"{YEAR}-{month:02}-{day:02}", number)
        lines += order
        if generator.random() < REFUND_SHARE:
            lines.append(refund(order[0], generator, length))
    return sorted(lines, key=lambda line: line.date)


def order_lines(generator: random.Random, date: str, number: int) -> list[Line]:
    region = weighted(generator, REGIONS)
    products = {weighted_product(generator) for _ in range(weighted(generator, LINES_PER_ORDER))}
    return [
        Line(
            order_id=f"S{date[2:4]}{date[5:7]}-{number:04}",
            date=date,
            region=region,
            sku=product.sku,
            quantity=str(weighted(generator, QUANTITIES) if product.price < 1000 else 1),
            unit_price=f"{product.price:.2f}",
        )
        for product in sorted(products, key=lambda product: product.sku)
    ]


def refund(line: Line, generator: random.Random, last_day: int) -> Line:
    """The same line with a negative quantity, up to a week later in the same month."""
    day = int(line.date[-2:]) + int(generator.random() * 7)
    date = f"{line.date[:-2]}{min(day, last_day):02}"
    return replace(line, date=date, quantity=f"-{line.quantity}")


def add_blemishes(months: dict[str, list[Line]]) -> None:
    """Damage the files in place, as `BLEMISHES` says."""
    repeated = months["2025-03"][60].order_id
    months["2025-03"] += [line for line in months["2025-03"] if line.order_id == repeated]
    late = months["2025-03"][-10].order_id
    months["2025-04"][:0] = [line for line in months["2025-03"] if line.order_id == late]
    change(months["2025-06"], 41, unit_price="")
    months["2025-08"] = [replace(line, date=day_first(line.date)) for line in months["2025-08"]]
    change(months["2025-09"], 77, date="2025-09-31")
    change(months["2025-10"], 12, quantity="two")
    change(months["2025-10"], 120, sku="GFT-99")
    months["2025-11"] = [
        replace(line, unit_price=f"{float(line.unit_price):,.2f}") for line in months["2025-11"]
    ]


def change(lines: list[Line], index: int, **fields: str) -> None:
    lines[index] = replace(lines[index], **fields)


def day_first(date: str) -> str:
    year, month, day = date.split("-")
    return f"{day}.{month}.{year}"


def weighted(generator: random.Random, weights: dict[T, int]) -> T:
    return generator.choices(list(weights), weights=list(weights.values()))[0]


def weighted_product(generator: random.Random) -> Product:
    return generator.choices(PRODUCTS, weights=[product.weight for product in PRODUCTS])[0]


def sales_text(lines: list[Line]) -> str:
    return "\n".join([SALES_HEADER, *(line.text() for line in lines)]) + "\n"


def products_text() -> str:
    rows = [
        f'{product.sku},"{product.name}",{product.category},{product.cost:.2f}'
        for product in PRODUCTS
    ]
    return "\n".join([PRODUCTS_HEADER, *rows]) + "\n"


def main() -> None:
    folder = Path(__file__).parent
    for name, text in generate().items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(text.encode("utf-8"))
        print(f"{name}: {text.count(chr(10)) - 1} rows")


if __name__ == "__main__":
    main()
