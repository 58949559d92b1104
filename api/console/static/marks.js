// Marks what was searched for in the rows that are seen. The browser paints it over the text
// (CSS highlights): the elements stay as they are.

const MOST_IN_ROW = 50;

export function mark({ text, ignoreCase }, elements) {
  if (!globalThis.Highlight) return;
  const ranges = [];
  if (text) {
    const wanted = ignoreCase ? text.toLowerCase() : text;
    for (const element of elements) {
      const place = element.querySelector(".x");
      if (place) ranges.push(...rangesOf(place, wanted, ignoreCase));
    }
  }
  CSS.highlights.set("found", new Highlight(...ranges));
}

function rangesOf(place, wanted, ignoreCase) {
  const whole = ignoreCase ? place.textContent.toLowerCase() : place.textContent;
  const ranges = [];
  for (let at = whole.indexOf(wanted); at >= 0 && ranges.length < MOST_IN_ROW; at = whole.indexOf(wanted, at + wanted.length)) {
    const range = new Range();
    let begin = 0;
    const walker = document.createTreeWalker(place, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const end = begin + node.length;
      if (begin <= at && at < end) range.setStart(node, at - begin);
      if (begin < at + wanted.length && at + wanted.length <= end) {
        range.setEnd(node, at + wanted.length - begin);
        break;
      }
      begin = end;
    }
    ranges.push(range);
  }
  return ranges;
}
