// The key of a picture: a colour bar with ticks, or coloured dots with names.

function make(tag, parent, text) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

const stops = (ramp) => Array.from({ length: 52 }, (_, i) => `rgb(${ramp.subarray(15 * i, 15 * i + 3).join(",")})`).join(",");

// ramps: (768) uint8 colours each, one above the other on one axis; ticks: pairs of share along the bar and text.
function drawBar(parent, ramps, label, ticks) {
  make("span", parent, label);
  for (const ramp of ramps) {
    const strip = make("div", parent);
    strip.className = "strip";
    strip.style.height = `${16 / ramps.length}px`;
    strip.style.background = `linear-gradient(to right, ${stops(ramp)})`;
  }
  const scale = make("div", parent);
  scale.className = "ticks";
  for (const [share, text] of ticks) make("span", scale, text).style.left = `${100 * share}%`;
}

function drawName(parent, tag, colour, name) {
  const entry = make(tag, parent);
  make("i", entry).style.background = colour;
  make("span", entry, name);
  return entry;
}
