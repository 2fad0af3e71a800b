#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "engine/analysis/chart.h"
#include "engine/analysis/svg.h"

namespace normlab {
namespace {

constexpr double kWidth = 620;
constexpr double kLeft = 76, kTop = 40, kBottom = 54;
constexpr double kBarRoom = 112;  // right of the cells, for the colour bar

// Nine colours of viridis, from dark to bright.
constexpr std::array<std::array<int, 3>, 9> kViridis = {{{68, 1, 84},
                                                         {71, 44, 122},
                                                         {59, 81, 139},
                                                         {44, 113, 142},
                                                         {33, 144, 141},
                                                         {39, 173, 129},
                                                         {92, 200, 99},
                                                         {170, 220, 50},
                                                         {253, 231, 37}}};

std::string with_numbers(std::string text, int x, int y) {
  const auto put = [&](const std::string& name, int number) {
    for (size_t at = text.find(name); at != std::string::npos; at = text.find(name)) {
      text.replace(at, name.size(), std::to_string(number));
    }
  };
  put("{x}", x);
  put("{y}", y);
  put("{x+y}", x + y);
  return text;
}

struct Grid {
  double size = 0;  // of a cell
  int columns = 0, rows = 0;
  double right() const { return kLeft + size * columns; }
  double bottom() const { return kTop + size * rows; }
};

void draw_cells(Svg& svg, const HeatMap& map, const Grid& grid) {
  for (int row = 0; row < grid.rows; ++row) {
    const std::vector<double>& values = map.rows[static_cast<size_t>(row)];
    for (int column = 0; column < static_cast<int>(values.size()); ++column) {
      const double value = values[static_cast<size_t>(column)];
      if (!std::isfinite(value)) continue;
      const double share = (value - map.low) / (map.high - map.low);
      svg.cell(kLeft + grid.size * column, grid.bottom() - grid.size * (row + 1), grid.size,
               grid.size, heat_colour(share),
               with_numbers(map.hover, column, map.first_row + row) + " = " + number_text(value));
    }
  }
}

void draw_axes(Svg& svg, const HeatMap& map, const Grid& grid) {
  svg.text(kLeft, 20, map.title, Anchor::start, "title");
  for (const double tick : ticks(0, grid.columns - 1, Scale::linear, 12)) {
    if (tick != std::round(tick)) continue;
    svg.text(kLeft + grid.size * (tick + 0.5), grid.bottom() + 18, number_text(tick),
             Anchor::middle, "tick");
  }
  for (const double tick : ticks(map.first_row, map.first_row + grid.rows - 1, Scale::linear, 12)) {
    if (tick != std::round(tick)) continue;
    svg.text(kLeft - 8, grid.bottom() - grid.size * (tick - map.first_row + 0.5) + 4,
             number_text(tick), Anchor::end, "tick");
  }
  svg.line(kLeft, kTop, kLeft, grid.bottom(), "axis");
  svg.line(kLeft, grid.bottom(), grid.right(), grid.bottom(), "axis");
  svg.text((kLeft + grid.right()) / 2, grid.bottom() + 42, map.x_title, Anchor::middle, "label");
  svg.upright_text(18, (kTop + grid.bottom()) / 2, map.y_title, "label");
}

void draw_colour_bar(Svg& svg, const HeatMap& map, const Grid& grid) {
  constexpr int kSteps = 100;
  constexpr double kWide = 16;
  const double left = grid.right() + 26, height = grid.bottom() - kTop;
  for (int step = 0; step < kSteps; ++step) {
    // A hair taller, so that no gap shows between two.
    svg.cell(left, grid.bottom() - height * (step + 1) / kSteps, kWide, height / kSteps + 0.5,
             heat_colour((step + 0.5) / kSteps));
  }
  for (const double tick : ticks(map.low, map.high, Scale::linear, 5)) {
    const double y = grid.bottom() - height * (tick - map.low) / (map.high - map.low);
    svg.line(left + kWide, y, left + kWide + 4, y, "axis");
    svg.text(left + kWide + 8, y + 4, number_text(tick), Anchor::start, "tick");
  }
  svg.upright_text(left + 68, (kTop + grid.bottom()) / 2, map.value_title, "label");
}

}  // namespace

std::string heat_colour(double share) {
  const double place = (1 - std::clamp(share, 0.0, 1.0)) * (kViridis.size() - 1);
  const size_t below = std::min(static_cast<size_t>(place), kViridis.size() - 2);
  const double part = place - static_cast<double>(below);
  std::array<int, 3> colour{};
  for (size_t i = 0; i < colour.size(); ++i) {
    colour[i] = static_cast<int>(
        std::lround((1 - part) * kViridis[below][i] + part * kViridis[below + 1][i]));
  }
  char text[8];
  std::snprintf(text, sizeof(text), "#%02x%02x%02x", colour[0] & 255, colour[1] & 255,
                colour[2] & 255);
  return text;
}

std::string draw(const HeatMap& map) {
  Grid grid;
  grid.rows = static_cast<int>(map.rows.size());
  for (const auto& row : map.rows)
    grid.columns = std::max(grid.columns, static_cast<int>(row.size()));
  const double room = kWidth - kLeft - kBarRoom;
  // Square cells; few layers make them neither huge nor the picture tiny.
  const int columns = std::max(grid.columns, 1);
  grid.size = std::min(room, std::max(44.0 * columns, 240.0)) / columns;
  Svg svg(kWidth, grid.bottom() + kBottom, map.title);
  draw_cells(svg, map, grid);
  draw_axes(svg, map, grid);
  draw_colour_bar(svg, map, grid);
  return svg.finish();
}

}  // namespace normlab
