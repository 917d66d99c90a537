// Shows the values under the pointer.
document.querySelectorAll('svg[data-readings]').forEach(svg => {
  const data = JSON.parse(svg.dataset.readings), cross = svg.querySelector('.cross'), box = svg.parentElement
  const tip = box.appendChild(Object.assign(document.createElement('div'), {className: 'tip'}))
  const hide = () => { tip.style.display = 'none'; cross.style.visibility = 'hidden' }
  const show = event => {
    const area = svg.getBoundingClientRect(), scale = area.width / svg.viewBox.baseVal.width
    const at = (event.clientX - area.left) / scale
    const row = data.rows.reduce((a, b) => Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a)
    cross.setAttribute('x1', row[0]); cross.setAttribute('x2', row[0]); cross.style.visibility = 'visible'
    tip.replaceChildren(Object.assign(document.createElement('b'), {textContent: row[1]}))
    data.names.forEach((name, i) => row[i + 2] && tip.append(name + ': ' + row[i + 2], document.createElement('br')))
    tip.style.display = 'block'
    const left = row[0] * scale + svg.offsetLeft + 12
    tip.style.left = (left + tip.offsetWidth > box.clientWidth ? left - tip.offsetWidth - 24 : left) + 'px'
    tip.style.top = svg.offsetTop + 14 + 'px'
  }
  svg.addEventListener('pointermove', show); svg.addEventListener('pointerdown', show)
  svg.addEventListener('pointerleave', hide)
})
