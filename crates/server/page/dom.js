// Elements built by hand: nothing in this page parses HTML, so no text can become markup.

/**
 * One element. Functions, named `on...`, become listeners, other entries attributes. Children are nodes, strings (which stay text), or
 * arrays of them. Null, undefined and false are left out everywhere.
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  // One by one: an answer may have more parts than a call can have arguments.
  for (const child of children.flat()) if (child !== null && child !== undefined && child !== false) element.append(child);
  return element;
}

/** The element with this id. */
export const $ = (id) => document.getElementById(id);

const SVG = 'http://www.w3.org/2000/svg';

// Drawn on 24 by 24 with a line of 1.75.
const PATHS = {
  menu: 'M4 7h16M4 12h16M4 17h10',
  compose: 'M12 5H7a2 2 0 0 0-2 2v10a2 2 0 0 0 2 2h10a2 2 0 0 0 2-2v-5M10 14l.6-3L18 3.6a1.7 1.7 0 0 1 2.4 2.4L13 13.4z',
  sliders: 'M4 8h9M19 8h1M4 16h1M11 16h9M16 5.5v5M8 13.5v5',
  chevron: 'M7 10l5 5 5-5',
  send: 'M12 19V5M6 11l6-6 6 6',
  stop: 'M7 7h10v10H7z',
  copy: 'M9 9h10v10H9zM15 9V5H5v10h4',
  check: 'M5 12.5l4.5 4.5L19 7.5',
  edit: 'M5 19l.8-4L16 4.8a2.26 2.26 0 0 1 3.2 3.2L9 18.2z',
  retry: 'M19 12a7 7 0 1 1-2.2-5.1M19 4v4h-4',
  trash: 'M5 7h14M10 7V5h4v2M7 7l1 12h8l1-12M10.5 11v4.5M13.5 11v4.5',
  down: 'M12 5v14M6 13l6 6 6-6',
  close: 'M6 6l12 12M18 6L6 18',
};

/** An icon that screen readers pass over; the button around it carries the label. */
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  svg.classList.add('glyph', `glyph-${name}`);
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', PATHS[name]);
  svg.append(path);
  return svg;
}

/** A button that shows an icon only. */
export const iconButton = (name, label, onclick, extra = {}) =>
  h('button', { type: 'button', class: 'icon', 'aria-label': label, title: label, onclick, ...extra }, icon(name));

/** Draws the icons that the page's text names. */
export function drawIcons() {
  for (const element of document.querySelectorAll('[data-icon]')) element.append(icon(element.dataset.icon));
}
