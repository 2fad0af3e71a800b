// Svg: a small writer of pictures for a page (page.h), whose style sheet gives the classes their
// colours, in light, dark and print alike.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace normlab {

// Text for XML and HTML.
std::string escaped(const std::string& text);
// At most so many significant digits, the shortest form: "0.25", "1e-05".
std::string number_text(double value, int digits = 4);

enum class Anchor { start, middle, end };

// Coordinates in pixels from the upper left corner; each element is drawn over those before it.
// `classes` are the style sheet's. A `hover` text, where it is not "", is shown under the pointer.
class Svg {
 public:
  // The label says to who cannot see it what the picture shows.
  Svg(double width, double height, const std::string& label);

  void line(double x1, double y1, double x2, double y2, const std::string& classes);
  void path(const std::vector<std::pair<double, double>>& points, const std::string& classes);
  void circle(double x, double y, double radius, const std::string& classes,
              const std::string& hover = "");
  void rectangle(double x, double y, double width, double height, const std::string& classes,
                 const std::string& hover = "");
  // Filled with a colour of its own, "#440154".
  void cell(double x, double y, double width, double height, const std::string& colour,
            const std::string& hover = "");
  // y is the baseline.
  void text(double x, double y, const std::string& text, Anchor anchor, const std::string& classes);
  // The same, read upwards.
  void upright_text(double x, double y, const std::string& text, const std::string& classes);

  // The whole <svg> element.
  std::string finish() const { return content_ + "</svg>\n"; }

 private:
  void element(const std::string& tag, const std::string& hover);

  std::string content_;
};

}  // namespace normlab
