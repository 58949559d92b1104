// Times that count: `data-ago` says how long ago, `data-since` for how long.
let skewMs = 0; // of the server's clock against this one

export function keepTimes(main) {
  skewMs = Date.parse(main.dataset.now) - Date.now();
  showTimes(document);
  setInterval(() => { if (!document.hidden) showTimes(document); }, 1000);
  document.addEventListener("visibilitychange", () => showTimes(document));
}

export function showTimes(root) {
  const now = Date.now() + skewMs;
  for (const each of root.querySelectorAll("time[data-ago]")) {
    const then = Date.parse(each.dateTime);
    write(each, ago((now - then) / 1000));
    local(each, then, "");
  }
  for (const each of root.querySelectorAll("time[data-since]")) {
    const then = Date.parse(each.dateTime);
    write(each, duration((now - then) / 1000));
    local(each, then, "since ");
  }
}

function write(each, text) {
  if (each.textContent !== text) each.textContent = text;
}

function local(each, then, before) {
  if (each.dataset.local) return;
  each.dataset.local = "1";
  each.title = before + new Date(then).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
}

// The same words as in words.py, where pages are made.
function ago(seconds) {
  const size = Math.abs(seconds);
  if (size < 1) return "now";
  for (const [unit, name] of [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]) {
    if (size >= unit) {
      const text = `${Math.floor(size / unit)} ${name}`;
      return seconds > 0 ? `${text} ago` : `in ${text}`;
    }
  }
}

function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  for (const [unit, name, below, nameBelow] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]) {
    if (whole >= unit) {
      const rest = Math.floor((whole % unit) / below);
      return `${Math.floor(whole / unit)} ${name}` + (rest ? ` ${rest} ${nameBelow}` : "");
    }
  }
  return `${whole} s`;
}
