// Layout of a layered drawing. The same steps as orchestrator/circuits/layout.py, which explains them, so
// that the page lays out what its reader asks for; a test holds the two to the same places.
const SWEEPS = 24, NODE_WIDTH = 1, WAYPOINT_WIDTH = 0.17;

// `rowOf`: Map of node -> row; `links`: [low node, high node]. Items are {name, row}: a node in its own row,
// elsewhere its waypoint. Gives x by item, the rows of items, and the items above that each leads to.
function layered(rowOf, links) {
  const targets = new Map([...rowOf.keys()].map((name) => [name, new Set()]));
  for (const [low, high] of links) targets.get(low).add(high);
  const rows = Array.from({ length: Math.max(...rowOf.values()) + 1 }, () => []);
  const known = new Map(), above = new Map(), below = new Map();
  const item = (name, row) => {
    const key = `${row} ${name}`;
    if (!known.has(key)) known.set(key, { name, row });
    return known.get(key);
  };
  for (const [name, row] of rowOf) {
    rows[row].push(item(name, row));
    const reached = [...targets.get(name)].sort((one, other) => rowOf.get(one) - rowOf.get(other) || (one < other ? -1 : 1));
    const last = reached.length ? rowOf.get(reached.at(-1)) : row;
    for (let step = row; step < last; step += 1) {
      const ends = reached.filter((other) => rowOf.get(other) === step + 1).map((other) => item(other, step + 1));
      if (last > step + 1) {
        ends.push(item(name, step + 1));
        rows[step + 1].push(item(name, step + 1));
      }
      above.set(item(name, step), ends);
    }
  }
  for (const [low, ends] of above) for (const end of ends) below.set(end, [...(below.get(end) ?? []), low]);
  const best = orderedRows(rows, above, below);
  return { rows: best, x: placesOf(best, above, below, rowOf), above, item };
}

function orderedRows(rows, above, below) {
  let best = rows.map((row) => [...row]), fewest = crossings(rows, above);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const up = sweep % 2 === 0;
    for (let at = 1; at < rows.length; at += 1) {
      const number = up ? at : rows.length - 1 - at;
      sortRow(rows[number], rows[up ? number - 1 : number + 1], up ? below : above);
    }
    const found = crossings(rows, above);
    if (found < fewest) { best = rows.map((row) => [...row]); fewest = found; }
  }
  return best;
}

function sortRow(row, other, neighbours) {
  const place = new Map(other.map((item, at) => [item, (at + 0.5) / other.length]));
  const keys = new Map(row.map((item, at) => {
    const near = (neighbours.get(item) ?? []).filter((end) => place.has(end)).map((end) => place.get(end));
    return [item, near.length ? near.reduce((sum, value) => sum + value, 0) / near.length : (at + 0.5) / row.length];
  }));
  row.sort((one, another) => keys.get(one) - keys.get(another));
}

// Pairs of pieces that cross, counted with a Fenwick tree over the upper row.
function crossings(rows, above) {
  let total = 0;
  for (let at = 0; at + 1 < rows.length; at += 1) {
    const place = new Map(rows[at + 1].map((item, index) => [item, index]));
    const counts = new Array(rows[at + 1].length + 1).fill(0);
    let seen = 0;
    for (const low of rows[at]) {
      const ends = (above.get(low) ?? []).map((end) => place.get(end));
      for (const end of ends) {
        total += seen;
        for (let index = end + 1; index > 0; index -= index & -index) total -= counts[index];
      }
      for (const end of ends) for (let index = end + 1; index < counts.length; index += index & -index) counts[index] += 1;
      seen += ends.length;
    }
  }
  return total;
}

function placesOf(rows, above, below, rowOf) {
  const half = (item) => (rowOf.get(item.name) === item.row ? NODE_WIDTH : WAYPOINT_WIDTH) / 2;
  const x = new Map();
  const gaps = rows.map((row) => {
    const gap = [0];
    for (let at = 1; at < row.length; at += 1) gap.push(gap.at(-1) + half(row[at - 1]) + half(row[at]) + 0.06);
    row.forEach((item, at) => x.set(item, gap[at] - gap.at(-1) / 2));
    return gap;
  });
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    for (let at = 0; at < rows.length; at += 1) {
      const number = sweep % 2 === 0 ? at : rows.length - 1 - at;
      const wanted = [], weights = [];
      for (const item of rows[number]) {
        let sum = 0, total = 0;
        for (const other of [...(below.get(item) ?? []), ...(above.get(item) ?? [])]) {
          const weight = other.name === item.name ? 6 : 1;
          sum += x.get(other) * weight;
          total += weight;
        }
        wanted.push((total ? sum / total : x.get(item)) - gaps[number][wanted.length]);
        weights.push(total || 0.1);
      }
      isotonic(wanted, weights).forEach((value, index) => x.set(rows[number][index], value + gaps[number][index]));
    }
  }
  return x;
}

// The non-decreasing sequence nearest in weighted least squares (pool adjacent violators).
function isotonic(values, weights) {
  const blocks = [];
  values.forEach((value, at) => {
    blocks.push({ mean: value, weight: weights[at], length: 1 });
    while (blocks.length > 1 && blocks.at(-2).mean > blocks.at(-1).mean) {
      const last = blocks.pop(), before = blocks.at(-1), together = before.weight + last.weight;
      before.mean = (before.mean * before.weight + last.mean * last.weight) / together;
      before.weight = together;
      before.length += last.length;
    }
  });
  return blocks.flatMap(({ mean, length }) => new Array(length).fill(mean));
}
