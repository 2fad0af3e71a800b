// Charts of a report: curves, bars and heat maps, as SVG.
#pragma once

#include <string>
#include <vector>

namespace normlab {

enum class Scale { linear, logarithmic };

struct Axis {
  std::string title;  // with its unit
  Scale scale = Scale::linear;
};

enum class Mark {
  points,  // joined by a line
  dashed,  // a line without points: a formula
  bars,    // from 0
};

// y over x; a point that is not finite, or not above 0 on a logarithmic axis, is left out, and the
// line with it. Series have the colours of the style sheet, in their order.
struct Series {
  std::string name;
  Mark mark = Mark::points;
  std::vector<double> x, y;
};

struct Chart {
  std::string title;
  Axis x, y;
  std::vector<Series> series;
};

// rows[i][j] is the cell at x = j, y = first_row + i, drawn upwards; cells beyond a row's end, and
// those that are not finite, are blank. Colours go from `low` to `high`.
struct HeatMap {
  std::string title, x_title, y_title;
  std::string value_title;  // of the colour bar
  std::string hover;        // what a cell is: "d({x}, {x+y})" with its numbers put in
  int first_row = 1;
  double low = 0, high = 1;
  std::vector<std::vector<double>> rows;
};

// An <svg> element.
std::string draw(const Chart& chart);
std::string draw(const HeatMap& map);

// About `count` round numbers that lie in [low, high]: multiples of 1, 2 or 5 times a power of ten;
// on a logarithmic axis of a decade or more powers of ten, with 2 and 5 times them where those are
// few.
std::vector<double> ticks(double low, double high, Scale scale, int count);
// Viridis (matplotlib's colour map, by S. van der Walt and N. Smith) backwards: 0 is bright, 1
// dark.
std::string heat_colour(double share);
// Logarithmic where all are above 0 and the largest is 30 times the smallest or more.
Scale scale_for(const std::vector<double>& values);

}  // namespace normlab
