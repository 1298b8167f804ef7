"""The frame of the report page: one HTML document, styles inside, no script, nothing from the network."""

from __future__ import annotations

from string import Template

STYLE = """
:root{color-scheme:light dark;
--page:#f6f7f9;--card:#fff;--ink:#16191d;--muted:#59626d;--rule:#dfe3e8;--heat:#2364c4;--good:#2364c4;--track:#e9edf2;
--s0:#0b62b0;--s1:#c2510a;--s2:#00795a;--s3:#a83a7f;--s4:#6b5a00;--s5:#555e68}
@media (prefers-color-scheme:dark){:root{
--page:#0f1216;--card:#171b21;--ink:#e8ebef;--muted:#9ba5b1;--rule:#2b323b;--heat:#2f6fd0;--good:#5b9cf6;--track:#262d36;
--s0:#62aeff;--s1:#ff9f58;--s2:#3fcf9d;--s3:#f08cc8;--s4:#e2c94f;--s5:#a9b3bf}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Noto Sans","Liberation Sans",sans-serif;-webkit-text-size-adjust:100%}
main,header{max-width:1240px;margin:0 auto;padding:0 20px}
header{padding-top:32px}
h1{font-size:26px;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em}
h2{font-size:18px;line-height:1.3;margin:0 0 2px}
h3{font-size:14px;margin:20px 0 8px}
p{margin:0 0 12px;max-width:75ch}
.muted,.note,header p{color:var(--muted)}
.note{font-size:13px;margin-bottom:14px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(132px,1fr));gap:12px;margin:20px 0}
.tile,section{background:var(--card);border:1px solid var(--rule);border-radius:10px}
.tile{padding:12px 14px}
.tile span{display:block;color:var(--muted);font-size:13px}
.tile b{font-size:25px;line-height:1.25;font-weight:640;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
section{padding:20px;min-width:0}
.sections{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:16px;margin-bottom:16px}
.full{grid-column:1/-1}
@media (max-width:1020px){.sections{grid-template-columns:minmax(0,1fr)}}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
th{font-weight:600;text-align:left}
.figures th,.figures td{padding:6px 12px 6px 0;border-bottom:1px solid var(--rule);white-space:nowrap}
.figures th:last-child,.figures td:last-child{padding-right:0}
.figures thead th{color:var(--muted);font-weight:500;font-size:13px}
.figures .n{text-align:right}
.figures tr.mean>*{font-weight:640;border-bottom:0}
.figures .wide{width:40%;min-width:70px}
.compared th,.compared td:nth-child(n+5){white-space:normal}
@media (min-width:880px){.compared{table-layout:fixed}.compared th:nth-child(n+2){width:12%}
.compared th:nth-child(n+5){width:20%}.compared th:last-child,.compared td:last-child{padding-left:12px}}
.bar{display:block;height:8px;border-radius:4px;background:var(--track);overflow:hidden}
.bar i{display:block;height:100%;background:var(--good);border-radius:4px}
.swatch{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:7px;border:1px solid var(--rule);
vertical-align:-1px}
.none{color:var(--muted)}
.confusion{width:auto;border-spacing:2px;border-collapse:separate;font-size:12px}
.confusion th{font-weight:500;white-space:nowrap}
.confusion tbody th{position:sticky;left:0;background:var(--card);text-align:right;padding-right:8px}
.confusion thead th{vertical-align:bottom;height:112px;padding:0}
.confusion thead span{writing-mode:vertical-rl;transform:rotate(180deg);padding-top:4px;margin:0 auto;display:block}
.confusion td{min-width:38px;height:31px;text-align:center;border-radius:4px;
background:color-mix(in srgb,var(--heat) calc(var(--p)*1%),var(--track))}
.confusion td.strong{color:#fff}
.confusion .corner{font-size:12px;color:var(--muted);text-align:right;padding:0 8px 4px 0}
.plot{margin:0;max-width:600px}
.chart{display:block;width:100%;height:auto;overflow:visible}
.chart text{fill:var(--muted);font-size:11.5px}
.chart .title{font-size:12px}
.grid{stroke:var(--rule);fill:none}.axis{stroke:var(--muted);fill:none}
.mark{stroke:var(--muted);stroke-dasharray:2 3;fill:none}
.line{fill:none;stroke-width:2;stroke-linejoin:round}
.s0{stroke:var(--s0)}.s1{stroke:var(--s1);stroke-dasharray:7 3}.s2{stroke:var(--s2);stroke-dasharray:2 2}
.s3{stroke:var(--s3);stroke-dasharray:9 3 2 3}.s4{stroke:var(--s4);stroke-dasharray:4 4}.s5{stroke:var(--s5)}
.bare{stroke-dasharray:none}.dot{fill:var(--card);stroke-width:3}
.chart .dot-text,.dot-text{fill:var(--ink);font-size:11.5px}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;list-style:none;margin:8px 0 0;padding:0;font-size:13px}
.legend svg{width:26px;height:8px;margin-right:7px}
.legend .mark-of{height:14px;margin-right:5px;vertical-align:-2px}
.legend b{font-variant-numeric:tabular-nums}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,440px),1fr));gap:16px}
.pictures figure{margin:0;min-width:0}
.pair{display:grid;grid-template-columns:1fr 1fr;gap:3px}
.pair img{display:block;width:100%;height:auto;border-radius:5px}
.pair span{font-size:12px;color:var(--muted)}
figcaption{font-size:13px;margin-top:4px;overflow-wrap:anywhere}
figcaption b{font-variant-numeric:tabular-nums}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 20px;margin:12px 0 0;font-size:14px}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
footer{max-width:1240px;margin:0 auto;padding:4px 20px 32px;color:var(--muted);font-size:13px}
@media (max-width:560px){main,header{padding:0 12px}header{padding-top:20px}section{padding:16px 14px}h1{font-size:22px}
.tiles{grid-template-columns:repeat(2,1fr);gap:8px}
.tile:last-child:nth-child(odd){grid-column:1/-1}.tile b{font-size:22px}.figures th,.figures td{padding-right:9px}
.figures{font-size:13px}.figures .wide{min-width:44px}.confusion{font-size:12px}.confusion td{height:28px}
dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:8px}}
@media print{section,.tile{break-inside:avoid}body{background:#fff}}
"""

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<header>
<h1>$title</h1>
<p>$subtitle</p>
</header>
<main>
<div class="tiles">$tiles</div>
<div class="sections">$sections</div>
</main>
<footer>$footer</footer>
</body>
</html>
""")
