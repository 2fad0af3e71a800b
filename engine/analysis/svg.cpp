#include "engine/analysis/svg.h"

#include <cstdio>

namespace normlab {
namespace {

// Tenths of a pixel are enough.
std::string coordinate(double value) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.1f", value);
  return text;
}

std::string attribute(const std::string& name, const std::string& value) {
  return " " + name + "=\"" + escaped(value) + "\"";
}

std::string attribute(const std::string& name, double value) {
  return attribute(name, coordinate(value));
}

const char* name_of(Anchor anchor) {
  switch (anchor) {
    case Anchor::start:
      return "start";
    case Anchor::middle:
      return "middle";
    case Anchor::end:
      return "end";
  }
  return "";
}

}  // namespace

std::string escaped(const std::string& text) {
  std::string out;
  for (const char letter : text) {
    switch (letter) {
      case '&':
        out += "&amp;";
        continue;
      case '<':
        out += "&lt;";
        continue;
      case '>':
        out += "&gt;";
        continue;
      case '"':
        out += "&quot;";
        continue;
    }
    out += letter;
  }
  return out;
}

std::string number_text(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof(text), "%.*g", digits, value);
  return text;
}

Svg::Svg(double width, double height, const std::string& label) {
  content_ = "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\"" +
             attribute("aria-label", label) +
             attribute("viewBox", "0 0 " + coordinate(width) + " " + coordinate(height)) + ">\n";
}

void Svg::element(const std::string& tag, const std::string& hover) {
  if (hover.empty()) {
    content_ += "<" + tag + "/>\n";
    return;
  }
  const std::string name = tag.substr(0, tag.find(' '));
  content_ += "<" + tag + "><title>" + escaped(hover) + "</title></" + name + ">\n";
}

void Svg::line(double x1, double y1, double x2, double y2, const std::string& classes) {
  element("line" + attribute("class", classes) + attribute("x1", x1) + attribute("y1", y1) +
              attribute("x2", x2) + attribute("y2", y2),
          "");
}

void Svg::path(const std::vector<std::pair<double, double>>& points, const std::string& classes) {
  std::string list;
  for (const auto& [x, y] : points) {
    list += (list.empty() ? "" : " ") + coordinate(x) + "," + coordinate(y);
  }
  element("polyline" + attribute("class", classes) + attribute("points", list), "");
}

void Svg::circle(double x, double y, double radius, const std::string& classes,
                 const std::string& hover) {
  element("circle" + attribute("class", classes) + attribute("cx", x) + attribute("cy", y) +
              attribute("r", radius),
          hover);
}

void Svg::rectangle(double x, double y, double width, double height, const std::string& classes,
                    const std::string& hover) {
  element("rect" + attribute("class", classes) + attribute("x", x) + attribute("y", y) +
              attribute("width", width) + attribute("height", height),
          hover);
}

void Svg::cell(double x, double y, double width, double height, const std::string& colour,
               const std::string& hover) {
  element("rect" + attribute("fill", colour) + attribute("x", x) + attribute("y", y) +
              attribute("width", width) + attribute("height", height),
          hover);
}

void Svg::text(double x, double y, const std::string& text, Anchor anchor,
               const std::string& classes) {
  content_ += "<text" + attribute("class", classes) + attribute("x", x) + attribute("y", y) +
              attribute("text-anchor", name_of(anchor)) + ">" + escaped(text) + "</text>\n";
}

void Svg::upright_text(double x, double y, const std::string& text, const std::string& classes) {
  content_ +=
      "<text" + attribute("class", classes) +
      attribute("transform", "translate(" + coordinate(x) + "," + coordinate(y) + ") rotate(-90)") +
      attribute("text-anchor", "middle") + ">" + escaped(text) + "</text>\n";
}

}  // namespace normlab
