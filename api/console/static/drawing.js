// Rows as elements. All that a task wrote becomes text nodes, and nothing else.

export function drawRow(number, row, time) {
  const element = document.createElement("div");
  element.className = "row";
  if (!row) {
    element.classList.add("coming");
    element.append(numberLink(number));
    return element;
  }
  if (row.e) element.classList.add("err");
  element.append(numberLink(number));
  // Made by the style sheet out of an attribute, so that it is not copied.
  const at = document.createElement("span");
  at.className = "t";
  at.dataset.t = time;
  const mark = document.createElement("span");
  mark.className = "s";
  if (row.e) {
    mark.setAttribute("role", "img");
    mark.setAttribute("aria-label", "stderr");
  }
  element.append(at, mark, text(row));
  return element;
}

function numberLink(number) {
  const link = document.createElement(number ? "a" : "span");
  link.className = "n";
  if (number) {
    link.href = `#L${number}`;
    link.dataset.n = number;
    link.setAttribute("aria-label", `Line ${number}`);
    link.tabIndex = -1;
  }
  return link;
}

export function plain(row) {
  return typeof row.x === "string" ? row.x : row.x.map(([part]) => part).join("");
}

function text(row) {
  const place = document.createElement("span");
  place.className = "x";
  if (!row.x) place.append(document.createElement("br")); // copied, a blank line stays one
  else if (typeof row.x === "string") place.textContent = row.x;
  else {
    for (const [part, classes, colour, behind] of row.x) {
      const span = document.createElement("span");
      span.className = classes;
      if (colour) span.style.color = colour;
      if (behind) span.style.backgroundColor = behind;
      span.textContent = part;
      place.append(span);
    }
  }
  if (row.c) {
    const more = document.createElement("span");
    more.className = "left-out";
    more.dataset.t = `… ${row.c.toLocaleString("en")} more`;
    place.append(more);
  }
  return place;
}

export function timeText(mode, atUs, begunMs) {
  if (mode === "elapsed") {
    const seconds = Math.max(0, atUs / 1e6 - begunMs / 1e3);
    const minutes = Math.floor(seconds / 60);
    return `${minutes}:${(seconds % 60).toFixed(3).padStart(6, "0")}`;
  }
  if (mode === "iso") return new Date(atUs / 1000).toISOString().slice(0, 23).replace("T", " ");
  return "";
}
