// Texts whose contrast with what is behind them is less than 4.5 (WCAG AA): [class, text, contrast].
() => {
    const linear = (value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    const light = (rgb) =>
        rgb.slice(0, 3).reduce((sum, value, at) => sum + linear(value / 255) * [0.2126, 0.7152, 0.0722][at], 0);
    const colour = (text) => (text.match(/[\d.]+/g) ?? []).map(Number);
    const over = (top, below) => {
        const [r, g, b, a = 1] = top;
        return [r, g, b].map((value, at) => value * a + below[at] * (1 - a));
    };
    const ground = (element) => {
        if (!element) return [255, 255, 255];
        const own = colour(getComputedStyle(element).backgroundColor);
        return (own[3] ?? 1) === 0 ? ground(element.parentElement) : over(own, ground(element.parentElement));
    };
    const bad = [];
    for (const element of document.querySelectorAll("body *")) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || !element.checkVisibility({ visibilityProperty: true })) continue;
        const behind = ground(element);
        const style = getComputedStyle(element);
        const [r, g, b, a = 1] = colour(style.color);
        const text = over([r, g, b, a * style.opacity], behind);
        const [one, other] = [light(text), light(behind)];
        const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (contrast < 4.5) bad.push([element.className, element.textContent.slice(0, 30), contrast]);
    }
    return bad;
}
