// One self-contained HTML page: text, pictures and a table; no scripts, nothing from elsewhere.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace normlab {

struct Figure {
  std::string svg;
  std::string caption;  // plain text
};

struct Table {
  std::vector<std::string> heads;
  std::vector<std::vector<std::string>> rows;
};

struct Page {
  std::string title;
  std::string introduction;
  std::vector<std::pair<std::string, std::string>> facts;  // names and values
  std::vector<Figure> figures;
  Table table;
  std::string footnote;
};

// Readable on a light and on a dark screen (as the reader's system asks for), and in print.
std::string html(const Page& page);

}  // namespace normlab
