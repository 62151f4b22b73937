"""Draws points on two logarithmic axes, as SVG that reads well on light and on dark pages."""

import math
from html import escape

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 190, 40, 52
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # told apart by the colour-blind


def chart(title, x_title, y_title, series, joined=False):
    """`series` maps names to points (x, y, label); `joined` connects them."""
    points = [point for line in series.values() for point in line]
    x_of = axis([x for x, _, _ in points], LEFT, WIDTH - RIGHT)
    y_of = axis([y for _, y, _ in points], HEIGHT - BOTTOM, TOP)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        "<style>text{font:12px sans-serif;fill:#767676}.title{font-size:15px;font-weight:bold}"
        ".grid{stroke:#767676;stroke-opacity:.3}</style>",
        f'<text class="title" x="{LEFT}" y="22">{escape(title)}</text>',
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x_title)}</text>',
        f'<text transform="rotate(-90)" x="{-(TOP + HEIGHT - BOTTOM) / 2}" y="16" text-anchor="middle">{escape(y_title)}</text>',
    ]
    for power, place in x_of.ticks:
        out.append(f'<line class="grid" x1="{place:.1f}" y1="{TOP}" x2="{place:.1f}" y2="{HEIGHT - BOTTOM}"/>')
        out.append(f'<text x="{place:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{written(power)}</text>')
    for power, place in y_of.ticks:
        out.append(f'<line class="grid" x1="{LEFT}" y1="{place:.1f}" x2="{WIDTH - RIGHT}" y2="{place:.1f}"/>')
        out.append(f'<text x="{LEFT - 8}" y="{place + 4:.1f}" text-anchor="end">{written(power)}</text>')
    for number, (name, line) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        places = [(x_of(x), y_of(y), label) for x, y, label in line]
        if joined:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
            out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y, label in places:
            out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"><title>{escape(f"{name}: {label}")}</title></circle>')
        y = TOP + 14 + 20 * number
        out.append(f'<circle cx="{WIDTH - RIGHT + 20}" cy="{y - 4}" r="4" fill="{colour}"/>')
        out.append(f'<text x="{WIDTH - RIGHT + 30}" y="{y}">{escape(name)}</text>')
    out.append("</svg>\n")
    return "\n".join(out)


def axis(values, start, end):
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)

    def place(value):
        return start + (math.log10(value) - low) / (high - low) * (end - start)

    place.ticks = [(power, place(10.0**power)) for power in range(low, high + 1)]
    return place


def written(power):
    return f"{10.0**power:g}" if power < 0 else f"{10**power:,}"
