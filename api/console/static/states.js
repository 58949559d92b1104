// How whole a log is, where that is worth a word.
const WORDS = {
  cut: "More was written than is kept: a line of it says how much is left out, or the end is.",
  missing: "Some bytes of this log never arrived.",
  damaged: "These are not the bytes that the task wrote.",
  undeclared: "Nobody said how much there was: its agent was lost, or is one of the original system.",
  expired: "This log is older than logs are kept.",
};

export function wordsOf(state) { return WORDS[state] ?? ""; }
