// A picture (base64 of a PNG) with 256 colours at most: its width, its palette, an index a pixel.
// Those that are seen most stay exact; of those that look alike, at the edges of letters, one stays.
async (base64) => {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
    const colours = new Uint32Array(data.length / 4);
    const counts = new Map();
    for (let at = 0; at < colours.length; at++) {
        const colour = (data[4 * at] << 16) | (data[4 * at + 1] << 8) | data[4 * at + 2];
        colours[at] = colour;
        counts.set(colour, (counts.get(colour) ?? 0) + 1);
    }
    const distance = (one, other) =>
        [16, 8, 0].reduce((sum, by) => sum + (((one >> by) & 255) - ((other >> by) & 255)) ** 2, 0);
    const byCount = [...counts].sort((one, other) => other[1] - one[1]).map(([colour]) => colour);
    let palette = byCount;
    for (let apart = 8; palette.length > 256; apart *= 1.3) {
        palette = [];
        for (const colour of byCount) {
            if (palette.every((other) => distance(colour, other) >= apart)) palette.push(colour);
            if (palette.length > 256) break;
        }
    }
    const places = new Map(palette.map((colour, place) => [colour, place]));
    for (const colour of counts.keys()) {
        if (places.has(colour)) continue;
        let best = 0;
        palette.forEach((other, place) => {
            if (distance(colour, other) < distance(colour, palette[best])) best = place;
        });
        places.set(colour, best);
    }
    let indices = "";
    for (const colour of colours) indices += String.fromCharCode(places.get(colour));
    return { width: bitmap.width, palette, indices: btoa(indices) };
}
