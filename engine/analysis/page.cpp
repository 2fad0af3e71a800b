#include "engine/analysis/page.h"

#include "engine/analysis/svg.h"

namespace normlab {
namespace {

// Series: Okabe and Ito's colours, which colour-blind readers can tell apart, and brighter ones of
// the same hues for a dark page.
constexpr const char* kStyle = R"css(
:root {
  color-scheme: light dark;
  --page: #ffffff; --ink: #1c1e21; --soft: #5c6269; --rule: #d9dce0; --panel: #f7f8f9;
  --series-0: #0072b2; --series-1: #d55e00; --series-2: #009e73; --series-3: #a04a7d;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #16181b; --ink: #e6e8ea; --soft: #a2a8af; --rule: #383c42; --panel: #1e2125;
    --series-0: #56b4e9; --series-1: #f0883e; --series-2: #2fc397; --series-3: #dd8fc0;
  }
}
@media print {
  :root {
    color-scheme: light;
    --page: #ffffff; --ink: #000000; --soft: #444444; --rule: #cccccc; --panel: #ffffff;
    --series-0: #0072b2; --series-1: #d55e00; --series-2: #009e73; --series-3: #a04a7d;
  }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 28px 24px 48px; max-width: 1360px; background: var(--page);
  color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
h1 { margin: 0 0 6px; font-size: 25px; line-height: 1.25; overflow-wrap: anywhere; }
p { margin: 0 0 14px; max-width: 96ch; }
dl { display: flex; flex-wrap: wrap; gap: 8px 30px; margin: 18px 0 24px; padding: 12px 16px;
     background: var(--panel); border: 1px solid var(--rule); border-radius: 6px; }
dt { font-size: 12px; color: var(--soft); }
dd { margin: 0; font-variant-numeric: tabular-nums; }
.figures { display: grid; gap: 26px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); }
figure { margin: 0; padding: 14px 14px 10px; border: 1px solid var(--rule); border-radius: 6px;
         break-inside: avoid; }
figcaption { margin-top: 4px; font-size: 13px; line-height: 1.45; color: var(--soft); }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--ink); font-family: inherit; }
svg .title { font-size: 16px; font-weight: 600; }
svg .label { font-size: 13px; fill: var(--soft); }
svg .tick, svg .legend { font-size: 12px; fill: var(--soft); }
svg .legend { fill: var(--ink); }
svg .axis { stroke: var(--soft); stroke-width: 1; }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .dashed { stroke-dasharray: 6 4; }
svg .point { stroke: var(--page); stroke-width: 1; }
svg .curve.series-0 { stroke: var(--series-0); } svg .curve.series-1 { stroke: var(--series-1); }
svg .curve.series-2 { stroke: var(--series-2); } svg .curve.series-3 { stroke: var(--series-3); }
svg .point.series-0, svg .bar.series-0 { fill: var(--series-0); }
svg .point.series-1, svg .bar.series-1 { fill: var(--series-1); }
svg .point.series-2, svg .bar.series-2 { fill: var(--series-2); }
svg .point.series-3, svg .bar.series-3 { fill: var(--series-3); }
.table { margin-top: 28px; overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 16px 4px 0; text-align: right; border-bottom: 1px solid var(--rule); }
th { font-weight: 600; vertical-align: bottom; }
footer { margin-top: 26px; font-size: 13px; color: var(--soft); }
@media print {
  body { padding: 0; font-size: 12px; }
  .figures { grid-template-columns: 1fr 1fr; gap: 12px; }
  figcaption { font-size: 10px; }
  tr { break-inside: avoid; }
}
)css";

std::string element(const std::string& tag, const std::string& text) {
  return "<" + tag + ">" + escaped(text) + "</" + tag + ">";
}

std::string table_html(const Table& table) {
  std::string out = "<div class=\"table\"><table>\n<thead><tr>";
  for (const std::string& head : table.heads) out += element("th", head);
  out += "</tr></thead>\n<tbody>\n";
  for (const std::vector<std::string>& row : table.rows) {
    out += "<tr>";
    for (const std::string& value : row) out += element("td", value);
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

}  // namespace

std::string html(const Page& page) {
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n";
  out += element("title", page.title) + "\n<style>" + kStyle + "</style>\n</head>\n<body>\n";
  out += element("h1", page.title) + "\n" + element("p", page.introduction) + "\n<dl>\n";
  for (const auto& [name, value] : page.facts) {
    out += "<div>" + element("dt", name) + element("dd", value) + "</div>\n";
  }
  out += "</dl>\n<div class=\"figures\">\n";
  for (const Figure& figure : page.figures) {
    out += "<figure>\n" + figure.svg + element("figcaption", figure.caption) + "\n</figure>\n";
  }
  out += "</div>\n" + table_html(page.table) + element("footer", page.footnote);
  return out + "\n</body>\n</html>\n";
}

}  // namespace normlab
