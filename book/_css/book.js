// What scrolls can be reached with the keyboard, and the page of the search has one field of that name.
function reach() {
  for (const box of document.querySelectorAll('.bd-article :is(table, pre, .cell_output, .output, div.math)')) {
    const scrolls = box.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).overflowX !== 'visible';
    if (scrolls) box.tabIndex = 0;
    else if (box.tabIndex === 0) box.removeAttribute('tabindex');
  }
}
addEventListener('load', () => {
  reach();
  addEventListener('resize', reach);
  document.querySelector('.citation-list')?.removeAttribute('role'); // a list for readers that look at its items
  [...document.querySelectorAll('[id="search-input"]')].slice(1).forEach(field => field.removeAttribute('id'));
});
