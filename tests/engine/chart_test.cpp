// Pictures: what is drawn where, and that a page holds nothing but itself.
#include "engine/analysis/chart.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "catch.h"
#include "engine/analysis/depth_page.h"
#include "engine/analysis/svg.h"

using namespace normlab;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

bool contains(const std::string& text, const std::string& part) { return count(text, part) > 0; }

DepthReport report_of(int64_t layers) {
  DepthReport report;
  report.model = "a<b>&\"c\"";
  report.config = llama_config("9m");
  report.config.layers = layers;
  report.tokens_per_sequence = 8;
  report.result.variances.assign(static_cast<size_t>(layers + 1), 0.25);
  report.result.distances = no_distances(layers);
  report.result.reference_distances = ReferenceDistances(layers).rows();
  report.result.loss_without.assign(static_cast<size_t>(layers), not_a_number);
  report.result.jacobian.assign(static_cast<size_t>(layers), {1, 2});
  return report;
}

}  // namespace

TEST_CASE("chart: ticks are round numbers within the axis") {
  CHECK(ticks(0, 1, Scale::linear, 5) == std::vector<double>{0, 0.2, 0.4, 6 * 0.1, 0.8, 1});
  CHECK(ticks(-0.6, 15.6, Scale::linear, 12) == std::vector<double>{0, 2, 4, 6, 8, 10, 12, 14});
  CHECK(!std::signbit(ticks(-0.6, 3, Scale::linear, 6)[0]));
  CHECK(ticks(0.5, 3e4, Scale::logarithmic, 6) == std::vector<double>{1, 10, 100, 1000, 10000});
  CHECK(ticks(0.9, 12, Scale::logarithmic, 6) == std::vector<double>{1, 2, 5, 10});
  CHECK(ticks(21, 72, Scale::logarithmic, 5) == std::vector<double>{40, 60});
  CHECK(ticks(3, 3, Scale::linear, 6) == std::vector<double>{3});
}

TEST_CASE("chart: a scale is logarithmic where numbers ask for it and allow it") {
  CHECK(scale_for({1, 29}) == Scale::linear);
  CHECK(scale_for({1, 30}) == Scale::logarithmic);
  CHECK(scale_for({0, 30}) == Scale::linear);
  CHECK(scale_for({}) == Scale::linear);
}

TEST_CASE("chart: larger numbers stand higher, and what cannot be shown breaks the line") {
  Chart chart{
      "t", {"x"}, {"y"}, {{"s", Mark::points, {0, 1, 2, 3, 4}, {1, 2, not_a_number, 4, 5}}}};
  const std::string svg = draw(chart);
  CHECK(count(svg, "<circle") == 4);
  CHECK(count(svg, "<polyline") == 2);
  CHECK(!contains(svg, "nan"));
  std::vector<double> heights;
  for (size_t at = svg.find("cy=\""); at != std::string::npos; at = svg.find("cy=\"", at + 1)) {
    heights.push_back(std::stod(svg.substr(at + 4)));
  }
  CHECK(std::is_sorted(heights.rbegin(), heights.rend()));
  // From 1 to 2 as far as from 4 to 5.
  CHECK(heights[0] - heights[1] == Approx(heights[2] - heights[3]).margin(0.11));
  chart.y.scale = Scale::logarithmic;
  chart.series[0].y = {1e-6, 10, -1, 100, 1e6};
  const std::string logarithmic = draw(chart);
  CHECK(count(logarithmic, "<circle") == 4);
  CHECK(contains(logarithmic, ">10⁻⁶<"));
  CHECK(contains(logarithmic, ">10⁵<"));
}

TEST_CASE("chart: bars reach from 0 to their number, up and down") {
  const std::string svg =
      draw(Chart{"t", {"x"}, {"y"}, {{"s", Mark::bars, {0, 1, 2}, {2, -1, 0}}}});
  std::vector<double> heights;
  for (size_t at = svg.find(" height=\""); at != std::string::npos;
       at = svg.find(" height=\"", at + 1)) {
    heights.push_back(std::stod(svg.substr(at + 9)));
  }
  REQUIRE(heights.size() == 3);
  CHECK(heights[0] == Approx(2 * heights[1]).margin(0.2));
  CHECK(heights[2] == 0);
}

TEST_CASE("heat map: each finite cell is drawn once, with its value under the pointer") {
  HeatMap map;
  map.hover = "d({x}, {x+y})";
  map.rows = {{0, 0.5, 1}, {0.25, not_a_number}};
  const std::string svg = draw(map);
  CHECK(count(svg, "<title>") == 4);
  CHECK(contains(svg, "<title>d(1, 2) = 0.5</title>"));
  CHECK(contains(svg, "<title>d(0, 2) = 0.25</title>"));
  // Viridis at its ends and in the middle; what is beyond an end has its colour.
  CHECK(heat_colour(0) == "#fde725");
  CHECK(heat_colour(1) == "#440154");
  CHECK(heat_colour(0.5) == "#21908d");
  CHECK(heat_colour(7) == heat_colour(1));
}

TEST_CASE(
    "depth page: is one file, whole for any number of layers, with what it is about escaped") {
  for (const int64_t layers : {1, 2, 7}) {
    CAPTURE(layers);
    const std::string page = html(report_of(layers));
    CHECK(contains(page, "Depth of a&lt;b&gt;&amp;&quot;c&quot;"));
    CHECK(count(page, "<svg") == (layers > 1 ? 6u : 4u));
    CHECK(count(page, "<tr>") == static_cast<size_t>(layers + 1));
    for (const std::string element : {"svg", "figure", "text", "title", "table", "dl"}) {
      CAPTURE(element);
      CHECK(count(page, "<" + element + ">") + count(page, "<" + element + " ") ==
            count(page, "</" + element + ">"));
    }
    // Nothing is loaded, and nothing runs.
    for (const char* foreign : {"<script", "<link", "@import", "url(", "src=", "href="}) {
      CHECK(!contains(page, foreign));
    }
  }
}

TEST_CASE("depth report: numbers that are none are null") {
  const auto json = to_json(report_of(2));
  CHECK(json.at("loss_without")[0].is_null());
  CHECK(json.at("variance").size() == 3);
  CHECK(json.at("jacobian").at("whole")[1] == 2);
}
