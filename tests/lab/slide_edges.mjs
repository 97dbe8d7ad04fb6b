// node slide_edges.mjs PACKAGES BROWSER PAGE.html: what lies past its slide's edges, or over something else, a line each;
// run by test_slides.py
//
// PACKAGES is where utils/slides has installed Marp, which brings puppeteer-core. The page is one of Marp's template
// "bare": all slides below one another, each 1280×720 of its own.

import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const [packages, browserPath, page] = process.argv.slice(2)
const puppeteer = createRequire(`${packages}/package.json`)('puppeteer-core')

function findMisplaced() {
  const found = []
  // beside a slide's own section there may be those of its background
  const slides = [...document.querySelectorAll('section')].filter(
    (section) => !['background', 'pseudo'].includes(section.dataset.marpitAdvancedBackground),
  )
  slides.forEach((slide, number) => {
    const edges = slide.getBoundingClientRect()
    const tell = (element, what) => {
      const words = (element.textContent || '').trim().replace(/\s+/g, ' ').slice(0, 60)
      found.push(`slide ${number + 1}: ${element.tagName.toLowerCase()} ${what}: ${words}`)
    }
    for (const element of slide.querySelectorAll('*')) {
      if (element.closest('svg') && element.tagName !== 'svg' && slide.contains(element.closest('svg'))) continue
      const box = element.getBoundingClientRect()
      if (!box.width || !box.height) continue
      const past = Math.max(edges.left - box.left, edges.top - box.top, box.right - edges.right, box.bottom - edges.bottom)
      if (past > 1) tell(element, `is ${Math.round(past)} pixels past the edge`)
      else if (element.scrollWidth > element.clientWidth + 1 && element.tagName === 'PRE') tell(element, 'is cut off')
    }
    // paragraphs, lists, tables … stand below one another
    const parts = [...slide.children].filter((part) => part.getBoundingClientRect().height)
    parts.forEach((part, index) => {
      const box = part.getBoundingClientRect()
      for (const other of parts.slice(index + 1)) {
        const beside = other.getBoundingClientRect()
        const over = Math.min(box.bottom, beside.bottom) - Math.max(box.top, beside.top)
        const across = Math.min(box.right, beside.right) - Math.max(box.left, beside.left)
        if (over > 1 && across > 1) tell(other, `lies ${Math.round(over)} pixels over a ${part.tagName.toLowerCase()}`)
      }
    })
  })
  return { slides: slides.length, found }
}

const browser = await puppeteer.launch({
  executablePath: browserPath,
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
})
try {
  const tab = await browser.newPage()
  const asked = []
  await tab.setViewport({ width: 1280, height: 720 })
  tab.on('request', (request) => {
    if (!/^(file|data|about|blob):/.test(request.url())) asked.push(request.url())
  })
  await tab.goto(pathToFileURL(page).href, { waitUntil: 'load' })
  const { slides, found } = await tab.evaluate(findMisplaced)
  console.log(JSON.stringify({ slides, found, asked }))
} finally {
  await browser.close()
}
