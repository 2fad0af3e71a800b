#include "engine/analysis/chart.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/analysis/svg.h"

namespace normlab {
namespace {

constexpr double kWidth = 620, kHeight = 380;
constexpr double kLeft = 76, kRight = 18, kBottom = 54;

// Below the title and, of several series, the legend.
double top_of(const Chart& chart) { return chart.series.size() > 1 ? 66 : 42; }

// From numbers to pixels.
class AxisMap {
 public:
  AxisMap(const Axis& axis, double low, double high, double from, double to)
      : scale_(axis.scale), low_(low), high_(high), from_(from), to_(to) {}

  double low() const { return low_; }
  double high() const { return high_; }
  bool shows(double value) const {
    return std::isfinite(value) && (scale_ == Scale::linear || value > 0);
  }
  double operator()(double value) const {
    const double share = (place(value) - place(low_)) / (place(high_) - place(low_));
    return from_ + share * (to_ - from_);
  }

 private:
  double place(double value) const {
    return scale_ == Scale::logarithmic ? std::log10(value) : value;
  }

  Scale scale_;
  double low_, high_, from_, to_;
};

std::string superscript(int number) {
  constexpr const char* kDigits[] = {"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string out = number < 0 ? "⁻" : "";
  for (const char digit : std::to_string(std::abs(number))) out += kDigits[digit - '0'];
  return out;
}

// The range of what is shown, with some room around it.
AxisMap y_map(const Chart& chart) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  const bool logarithmic = chart.y.scale == Scale::logarithmic;
  for (const Series& series : chart.series) {
    if (series.mark == Mark::bars) low = std::min(low, 0.0), high = std::max(high, 0.0);
    for (const double y : series.y) {
      if (!std::isfinite(y) || (logarithmic && y <= 0)) continue;
      low = std::min(low, y);
      high = std::max(high, y);
    }
  }
  if (!(low <= high)) low = high = 1;
  if (logarithmic) {
    low /= 1.3;
    high *= 1.3;
  } else {
    // A linear axis whose numbers are all on one side of 0 begins there.
    const double room = low == high ? std::max(1.0, std::abs(high)) : 0.06 * (high - low);
    low = low >= 0 ? 0 : low - room;
    high = high <= 0 ? 0 : high + room;
    if (low == high) high = 1;
  }
  return AxisMap(chart.y, low, high, kHeight - kBottom, top_of(chart));
}

AxisMap x_map(const Chart& chart) {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const Series& series : chart.series) {
    for (const double x : series.x) {
      low = std::min(low, x);
      high = std::max(high, x);
    }
  }
  return AxisMap(chart.x, low - 0.6, high + 0.6, kLeft, kWidth - kRight);
}

std::string tick_text(double value) {
  const double magnitude = std::abs(value);
  if (magnitude == 0 || (magnitude >= 1e-3 && magnitude < 1e5)) {
    return (value < 0 ? "−" : "") + number_text(magnitude, 6);
  }
  const double power = std::floor(std::log10(magnitude) + 1e-9);
  const std::string factor = number_text(value / std::pow(10, power));
  return (factor == "1" ? "" : factor + "·") + "10" + superscript(static_cast<int>(power));
}

void draw_axes(Svg& svg, const Chart& chart, const AxisMap& x, const AxisMap& y) {
  svg.text(kLeft, 20, chart.title, Anchor::start, "title");
  for (const double tick : ticks(y.low(), y.high(), chart.y.scale, 6)) {
    svg.line(kLeft, y(tick), kWidth - kRight, y(tick), "grid");
    svg.text(kLeft - 8, y(tick) + 4, tick_text(tick), Anchor::end, "tick");
  }
  for (const double tick : ticks(std::ceil(x.low()), x.high(), Scale::linear, 12)) {
    if (tick != std::round(tick)) continue;  // layers are whole
    svg.line(x(tick), kHeight - kBottom, x(tick), kHeight - kBottom + 5, "axis");
    svg.text(x(tick), kHeight - kBottom + 19, number_text(tick), Anchor::middle, "tick");
  }
  svg.line(kLeft, top_of(chart), kLeft, kHeight - kBottom, "axis");
  const double base = y.low() <= 0 && chart.y.scale == Scale::linear ? y(0) : kHeight - kBottom;
  svg.line(kLeft, base, kWidth - kRight, base, "axis");
  svg.text((kLeft + kWidth - kRight) / 2, kHeight - 12, chart.x.title, Anchor::middle, "label");
  svg.upright_text(18, (top_of(chart) + kHeight - kBottom) / 2, chart.y.title, "label");
}

std::string colour_class(size_t number) { return "series-" + std::to_string(number % 4); }

// A line of samples and names, in the order of the series.
void draw_legend(Svg& svg, const Chart& chart) {
  constexpr double kLetter = 6.6, kSample = 26, kGap = 18;
  if (chart.series.size() == 1) return;  // the title says it
  double x = kLeft;
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const Series& series = chart.series[i];
    const std::string colour = colour_class(i);
    switch (series.mark) {
      case Mark::points:
        svg.line(x, 40, x + kSample, 40, "curve " + colour);
        svg.circle(x + kSample / 2, 40, 3.2, "point " + colour);
        break;
      case Mark::dashed:
        svg.line(x, 40, x + kSample, 40, "curve dashed " + colour);
        break;
      case Mark::bars:
        svg.rectangle(x + kSample / 2 - 6, 34, 12, 12, "bar " + colour);
        break;
    }
    svg.text(x + kSample + 6, 44, series.name, Anchor::start, "legend");
    // Letters of UTF-8, not bytes.
    const auto letters = std::count_if(series.name.begin(), series.name.end(),
                                       [](char letter) { return (letter & 0xC0) != 0x80; });
    x += kSample + 6 + kLetter * static_cast<double>(letters) + kGap;
  }
}

std::string hover_text(const Chart& chart, const Series& series, size_t i) {
  return series.name + "\n" + chart.x.title + ": " + number_text(series.x[i]) + "\n" +
         chart.y.title + ": " + number_text(series.y[i], 6);
}

void draw_series(Svg& svg, const Chart& chart, size_t number, const AxisMap& x, const AxisMap& y) {
  const Series& series = chart.series[number];
  const std::string colour = colour_class(number);
  std::vector<std::pair<double, double>> run;
  const auto end_run = [&] {
    if (run.size() > 1) {
      svg.path(run, (series.mark == Mark::dashed ? "curve dashed " : "curve ") + colour);
    }
    run.clear();
  };
  for (size_t i = 0; i < series.y.size(); ++i) {
    if (!y.shows(series.y[i])) {
      end_run();
    } else if (series.mark == Mark::bars) {
      const double top = std::min(y(series.y[i]), y(0));
      const double wide = 0.7 * (x(1) - x(0));
      svg.rectangle(x(series.x[i]) - wide / 2, top, wide, std::abs(y(series.y[i]) - y(0)),
                    "bar " + colour, hover_text(chart, series, i));
    } else {
      run.emplace_back(x(series.x[i]), y(series.y[i]));
    }
  }
  end_run();
  for (size_t i = 0; i < series.y.size() && series.mark == Mark::points; ++i) {
    if (!y.shows(series.y[i])) continue;
    svg.circle(x(series.x[i]), y(series.y[i]), 3.2, "point " + colour,
               hover_text(chart, series, i));
  }
}

}  // namespace

std::vector<double> ticks(double low, double high, Scale scale, int count) {
  if (low == high) return {low};
  std::vector<double> found;
  if (scale == Scale::logarithmic && high >= 10 * low) {
    const bool few = std::log10(high / low) < 2.5;
    for (double power = std::floor(std::log10(low)); power <= std::log10(high); ++power) {
      for (const double factor : {1.0, 2.0, 5.0}) {
        const double tick = factor * std::pow(10, power);
        if ((factor == 1 || few) && tick >= low && tick <= high) found.push_back(tick);
      }
    }
    return found;
  }
  const double rough = (high - low) / count;
  const double power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {5.0, 2.0, 1.0}) {
    if (factor * power >= rough) step = factor * power;
  }
  for (double number = std::ceil(low / step); number * step <= high; ++number) {
    found.push_back(number * step + 0.0);  // never −0
  }
  return found;
}

Scale scale_for(const std::vector<double>& values) {
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  const bool wide = !values.empty() && *low > 0 && *high >= 30 * *low;
  return wide ? Scale::logarithmic : Scale::linear;
}

std::string draw(const Chart& chart) {
  Svg svg(kWidth, kHeight, chart.title);
  const AxisMap x = x_map(chart), y = y_map(chart);
  draw_axes(svg, chart, x, y);
  for (size_t i = 0; i < chart.series.size(); ++i) draw_series(svg, chart, i, x, y);
  draw_legend(svg, chart);
  return svg.finish();
}

}  // namespace normlab
