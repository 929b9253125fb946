"""Words: PromQL's functions, aggregations and keywords, each with its form and one sentence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """name, how it is written, what it gives."""

    name: str
    form: str
    help: str


def _words(table: str) -> tuple[Word, ...]:
    rows = (line.strip().split(" | ") for line in table.strip().splitlines())
    return tuple(Word(form.partition("(")[0].strip(), form.strip(), help_text.strip()) for form, help_text in rows)


AGGREGATIONS = _words("""
    sum(v) | Sum over the series of each group.
    avg(v) | Mean over the series of each group.
    min(v) | Smallest value of each group.
    max(v) | Largest value of each group.
    count(v) | How many series each group has.
    group(v) | 1 for each group.
    stddev(v) | Population standard deviation over each group.
    stdvar(v) | Population variance over each group.
    quantile(0.99, v) | The q-quantile (0 to 1) over the series of each group.
    topk(5, v) | The k largest series of each group.
    bottomk(5, v) | The k smallest series of each group.
    count_values("label", v) | How many series have each value; the value becomes the label.
""")

FUNCTIONS = _words("""
    rate(v[5m]) | Increase per second of a counter over the window, resets allowed for.
    irate(v[5m]) | Increase per second between the last two samples of the window.
    increase(v[5m]) | Increase of a counter over the window.
    delta(v[5m]) | Difference between the window's ends, for gauges.
    idelta(v[5m]) | Difference between the last two samples.
    deriv(v[5m]) | Slope per second by linear regression, for gauges.
    predict_linear(v[1h], 3600) | Where a gauge will be so many seconds ahead, by linear regression.
    double_exponential_smoothing(v[1h], 0.3, 0.3) | Smoothed value of a gauge.
    avg_over_time(v[5m]) | Mean over the window.
    min_over_time(v[5m]) | Smallest value in the window.
    max_over_time(v[5m]) | Largest value in the window.
    sum_over_time(v[5m]) | Sum of the samples in the window.
    count_over_time(v[5m]) | How many samples the window has.
    quantile_over_time(0.99, v[5m]) | The q-quantile of the samples in the window.
    stddev_over_time(v[5m]) | Standard deviation in the window.
    stdvar_over_time(v[5m]) | Variance in the window.
    mad_over_time(v[5m]) | Median absolute deviation in the window.
    last_over_time(v[5m]) | The newest sample in the window.
    first_over_time(v[5m]) | The oldest sample in the window.
    present_over_time(v[5m]) | 1 where the window has a sample.
    absent_over_time(v[5m]) | 1 where the window has none.
    changes(v[5m]) | How often the value changed in the window.
    resets(v[5m]) | How often a counter began anew in the window.
    histogram_quantile(0.99, sum by (le) (rate(v_bucket[5m]))) | A quantile of a histogram.
    histogram_fraction(0, 0.001, sum by (le) (rate(v_bucket[5m]))) | Which share of a histogram lies between two bounds.
    abs(v) | Absolute value.
    ceil(v) | Rounded up.
    floor(v) | Rounded down.
    round(v, 1) | Rounded to the nearest multiple.
    clamp(v, 0, 1) | Held between two bounds.
    clamp_min(v, 0) | At least so much.
    clamp_max(v, 1) | At most so much.
    sgn(v) | Sign: -1, 0 or 1.
    sqrt(v) | Square root.
    exp(v) | Exponential.
    ln(v) | Natural logarithm.
    log2(v) | Logarithm to base 2.
    log10(v) | Logarithm to base 10.
    absent(v) | 1 where nothing is selected.
    scalar(v) | The value of a single series as a number.
    vector(1) | A number as a series without labels.
    time() | The time of evaluation, seconds since the epoch.
    timestamp(v) | The time of each sample, seconds since the epoch.
    label_replace(v, "to", "$1", "from", "(.*)") | A label made from another by a regular expression.
    label_join(v, "to", "-", "a", "b") | A label joined from others.
    sort(v) | Sorted by value, ascending (instant queries only).
    sort_desc(v) | Sorted by value, descending (instant queries only).
    hour(v) | Hour of the day, UTC.
    minute(v) | Minute of the hour.
    day_of_week(v) | 0 is Sunday.
    day_of_month(v) | 1 to 31.
    day_of_year(v) | 1 to 366.
    days_in_month(v) | 28 to 31.
    month(v) | 1 to 12.
    year(v) | The year, UTC.
    sort_by_label(v, "label") | Sorted by a label's value (instant queries only).
    sort_by_label_desc(v, "label") | The same, descending.
    ts_of_last_over_time(v[5m]) | When the newest sample of the window was taken.
    ts_of_first_over_time(v[5m]) | When the oldest sample of the window was taken.
    ts_of_max_over_time(v[5m]) | When the window's largest value was taken.
    ts_of_min_over_time(v[5m]) | When the window's smallest value was taken.
    start_timestamp(v) | When a counter began, where it is known.
    max_of(1, 2) | The larger of two numbers.
    min_of(1, 2) | The smaller of two numbers.
    sin(v) | Sine.
    cos(v) | Cosine.
    tan(v) | Tangent.
    asin(v) | Arc sine.
    acos(v) | Arc cosine.
    atan(v) | Arc tangent.
    sinh(v) | Hyperbolic sine.
    cosh(v) | Hyperbolic cosine.
    tanh(v) | Hyperbolic tangent.
    asinh(v) | Inverse hyperbolic sine.
    acosh(v) | Inverse hyperbolic cosine.
    atanh(v) | Inverse hyperbolic tangent.
    deg(v) | Radians as degrees.
    rad(v) | Degrees as radians.
    pi() | 3.14159...
""")

KEYWORDS = _words("""
    by (label) | Group by these labels.
    without (label) | Group by all labels but these.
    on (label) | Match series of both sides by these labels.
    ignoring (label) | Match series of both sides by all labels but these.
    group_left (label) | Many series on the left match one on the right.
    group_right (label) | Many series on the right match one on the left.
    offset 5m | As it was so long ago.
    and | Those of the left that are on the right too.
    or | Both sides, the left first.
    unless | Those of the left that are not on the right.
    bool | A comparison gives 0 or 1.
""")
