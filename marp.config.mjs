// What `marp` reads in this folder, called by hand or by utils/slides: pages stand for themselves, with no network.
//
// Pictures become part of the page, emoji are the reader's own, and the comments with which blocks say where they run
// (knetsim/lessons/remark.py) are not among the speaker's notes.

import { existsSync, readFileSync } from 'node:fs'

const REMARK = /^(run|output|file|end|await|watch|scenario)\s*(:|$)/
const PICTURE = /(src="|url\((?:&quot;|"|'))([^":&']+\.(svg|png|jpe?g|gif|webp))(?="|&quot;|')/g
const TYPES = { svg: 'image/svg+xml', jpg: 'image/jpeg' } // of the others the type has the ending's name

function hideRemarks(md) {
  md.core.ruler.before('marpit_collect', 'knetsim_remarks', (state) => {
    for (const token of state.tokens.flatMap((one) => [one, ...(one.children ?? [])])) {
      if (token.type === 'marpit_comment' && REMARK.test(token.content.trim())) {
        token.meta = { ...token.meta, marpitCommentParsed: 'knetsim' }
      }
    }
  })
}

function embed(html) {
  return html.replace(PICTURE, (whole, before, file, kind) =>
    existsSync(file) ? `${before}data:${TYPES[kind] ?? `image/${kind}`};base64,${readFileSync(file, 'base64')}` : whole,
  )
}

export default {
  options: { emoji: { shortcode: false, unicode: false } },
  engine: ({ marp }) => {
    marp.use(hideRemarks)
    const render = marp.render.bind(marp)
    marp.render = (markdown, env) => {
      const page = render(markdown, env)
      page.html = Array.isArray(page.html) ? page.html.map(embed) : embed(page.html)
      return page
    }
    return marp
  },
}
