// Reads what orchestrator/report/codes.py writes: numbers as base-64 digits.
const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const DIGIT_OF = new Map([...DIGITS].map((digit, value) => [digit, value]));
const LEVELS_PER_DECADE = 256, LOWEST = 2047;

function decodedNumbers(text) {
  const found = [];
  let value = 0, weight = 1;
  for (const character of text) {
    const digit = DIGIT_OF.get(character);
    value += (digit % 32) * weight;
    weight *= 32;
    if (digit < 32) { found.push(value); value = 0; weight = 1; }
  }
  return found;
}

function decodedRising(text) {
  let last = -1;
  return decodedNumbers(text).map((gap) => (last += gap + 1));
}

// The numbers of a set: rising, or after a dot six of them in a digit.
function decodedMembers(text) {
  if (text[0] !== ".") return decodedRising(text);
  const found = [];
  for (let at = 1; at < text.length; at += 1) {
    const digit = DIGIT_OF.get(text[at]);
    for (let bit = 0; bit < 6; bit += 1) if (digit >> bit & 1) found.push(6 * (at - 1) + bit);
  }
  return found;
}

// One number may stand for all.
const decodedSame = (told, length) => (typeof told === "number" ? new Array(length).fill(told) : decodedNumbers(told));

// Scores to about one percent; null where none are known.
function decodedScores(circuit, length) {
  if (circuit.top === undefined) return null;
  if (circuit.levels === undefined) return new Array(length).fill(circuit.top);
  return Array.from({ length }, (_, at) => {
    const code = 64 * DIGIT_OF.get(circuit.levels[2 * at]) + DIGIT_OF.get(circuit.levels[2 * at + 1]);
    const level = code % 2048;
    const size = level === 0 ? 0 : circuit.top * 10 ** ((level - LOWEST) / LEVELS_PER_DECADE);
    return code >= 2048 ? -size : size;
  });
}
