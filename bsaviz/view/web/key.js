// The key of a picture: a colour bar with ticks, or coloured dots with names.

function make(tag, parent, text) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

// ramps: (768) uint8 colours each, one above the other on one axis; ticks: pairs of share along the bar and text.
function drawBar(parent, ramps, label, ticks) {
  make("span", parent, label);
  const strip = make("canvas", parent);
  Object.assign(strip, { width: 256, height: ramps.length });
  const image = new ImageData(256, ramps.length);
  ramps.forEach((ramp, row) => {
    for (let i = 0; i < 256; i++) image.data.set([...ramp.subarray(3 * i, 3 * i + 3), 255], 4 * (256 * row + i));
  });
  strip.getContext("2d").putImageData(image, 0, 0);
  const scale = make("div", parent);
  for (const [share, text] of ticks) make("span", scale, text).style.left = `${100 * share}%`;
}

function drawName(parent, tag, colour, name) {
  const entry = make(tag, parent);
  make("i", entry).style.background = colour;
  make("span", entry, name);
  return entry;
}
