"use strict";

// All that the page says, in both languages: JSON between the braces and the brackets.

// By key. Verdicts, camera states, stages, limits and kinds of events are keys as devices
// write them.
const TEXTS = {
  "skip": {"en": "Skip to content", "zh-TW": "跳到內容"},
  "live": {"en": "Live", "zh-TW": "即時"},
  "faces": {"en": "Faces", "zh-TW": "臉"},
  "asTable": {"en": "As a table", "zh-TW": "以表格顯示"},
  "health": {"en": "Device", "zh-TW": "裝置"},
  "model": {"en": "Model", "zh-TW": "模型"},
  "events": {"en": "Events", "zh-TW": "事件"},
  "show": {"en": "Show the picture", "zh-TW": "顯示影像"},
  "hide": {"en": "Hide the picture", "zh-TW": "隱藏影像"},
  "pictureOf": {"en": "The camera's picture with a box about each face", "zh-TW": "攝影機影像，每張臉都有方框"},
  "nobody": {"en": "Nobody is there.", "zh-TW": "沒有人。"},
  "minutesOnly": {
    "en": "No single face is shown here: this device keeps sums per minute only.",
    "zh-TW": "這裡不顯示任何一張臉：此裝置只保留每分鐘的統計。"
  },
  "running": {"en": "running", "zh-TW": "運作中"},
  "trouble": {"en": "trouble", "zh-TW": "有問題"},
  "unreachable": {"en": "no answer", "zh-TW": "沒有回應"},
  "unreachableProblem": {"en": "The page gets no answer from this device.", "zh-TW": "此頁面得不到裝置的回應。"},
  "idle": {"en": "idle: nothing moves", "zh-TW": "閒置中：沒有動靜"},
  "time": {"en": "time", "zh-TW": "時間"},
  "label": {"en": "label", "zh-TW": "標籤"},
  "faceMinutes": {"en": "face-minutes", "zh-TW": "臉分鐘"},
  "nothing": {"en": "Nothing in that time.", "zh-TW": "這段時間沒有資料。"},
  "good": {"en": "good", "zh-TW": "良好"},
  "uncertain": {"en": "uncertain", "zh-TW": "不確定"},
  "too small": {"en": "too small", "zh-TW": "太小"},
  "blurred": {"en": "blurred", "zh-TW": "模糊"},
  "turned away": {"en": "turned away", "zh-TW": "轉開"},
  "face": {"en": "Face", "zh-TW": "臉"},
  "camera": {"en": "Camera", "zh-TW": "攝影機"},
  "ok": {"en": "ok", "zh-TW": "正常"},
  "starting": {"en": "starting", "zh-TW": "啟動中"},
  "paused": {"en": "paused", "zh-TW": "已暫停"},
  "lost": {"en": "lost", "zh-TW": "已斷線"},
  "frames": {"en": "Frames a second", "zh-TW": "每秒影格"},
  "of": {"en": "of", "zh-TW": "／"},
  "milliseconds": {"en": "Milliseconds a frame", "zh-TW": "每影格毫秒"},
  "detect": {"en": "detect", "zh-TW": "偵測"},
  "track": {"en": "track", "zh-TW": "追蹤"},
  "classify": {"en": "classify", "zh-TW": "分類"},
  "smooth": {"en": "smooth", "zh-TW": "平滑"},
  "temperature": {"en": "Temperature", "zh-TW": "溫度"},
  "limits": {"en": "Limits", "zh-TW": "限制"},
  "noLimits": {"en": "none", "zh-TW": "無"},
  "notReported": {"en": "not reported here", "zh-TW": "此處沒有資料"},
  "memory": {"en": "Memory", "zh-TW": "記憶體"},
  "writes": {"en": "Written a day", "zh-TW": "每日寫入"},
  "writesPending": {"en": "counted ten minutes after the start", "zh-TW": "開始十分鐘後計算"},
  "since": {"en": "Running since", "zh-TW": "開始時間"},
  "broker": {"en": "Broker", "zh-TW": "代理伺服器"},
  "connected": {"en": "connected", "zh-TW": "已連線"},
  "waiting": {"en": "wait", "zh-TW": "等待中"},
  "intendedUse": {"en": "Made for", "zh-TW": "用途"},
  "outOfScopeUse": {"en": "Not for", "zh-TW": "禁止用途"},
  "unreliable": {"en": "It cannot tell reliably: {1}.", "zh-TW": "無法可靠辨識：{1}。"},
  "limitations": {"en": "Limits", "zh-TW": "限制"},
  "language": {"en": "Language", "zh-TW": "語言"},
  "history": {"en": "Over time", "zh-TW": "隨時間變化"},
  "span": {"en": "Span of time", "zh-TW": "時間範圍"},
  "hour": {"en": "Last hour", "zh-TW": "過去一小時"},
  "day": {"en": "Last day", "zh-TW": "過去一天"},
  "week": {"en": "Last week", "zh-TW": "過去一週"},
  "month": {"en": "Last four weeks", "zh-TW": "過去四週"},
  "facesAtATime": {"en": "faces at a time, on average", "zh-TW": "同時出現的臉數（平均）"},
  "noHistory": {"en": "No face in that time. A minute appears once it is over.", "zh-TW": "這段時間沒有臉。每一分鐘結束後才會出現。"},
  "share": {"en": "share", "zh-TW": "比例"},
  "shares": {"en": "Shares", "zh-TW": "比例"},
  "privacy": {"en": "Pictures are shown when you ask for them, and never stored.", "zh-TW": "只有在您要求時才顯示影像，且不會被儲存。"},
  "noPictureForbidden": {"en": "No picture: this device's settings forbid it (view.show_picture = false).", "zh-TW": "沒有影像：此裝置的設定禁止顯示（view.show_picture = false）。"},
  "noPictureNotAsked": {"en": "No picture yet: press “Show the picture”.", "zh-TW": "尚無影像：請按「顯示影像」。"},
  "noPictureUnreachable": {"en": "No picture: this page gets no answer from the device.", "zh-TW": "沒有影像：此頁面得不到裝置的回應。"},
  "noPictureStopped": {"en": "No picture: mien.service does not run on this device.", "zh-TW": "沒有影像：此裝置上的 mien.service 未在執行。"},
  "noPicturePaused": {"en": "No picture: the camera was paused at the device.", "zh-TW": "沒有影像：攝影機已在裝置上暫停。"},
  "noPictureLost": {"en": "No picture: the camera is lost; the device goes on trying.", "zh-TW": "沒有影像：攝影機已斷線，裝置會繼續嘗試連線。"},
  "noPictureRefused": {"en": "No picture: too many look at it, or this user may not; it is tried again.", "zh-TW": "沒有影像：觀看者太多，或此使用者沒有權限；稍後會再試。"},
  "noPictureRunOver": {"en": "The run has ended.", "zh-TW": "執行已結束。"},
  "waitingStart": {"en": "Waits for the run to load its model …", "zh-TW": "等待程式載入模型…"},
  "waitingFirst": {"en": "Waits for the first picture of the source …", "zh-TW": "等待來源的第一張影像…"},
  "waitingNext": {"en": "Waits for the next picture …", "zh-TW": "等待下一張影像…"},
  "waitingAnswer": {"en": "Waits for the device's answer …", "zh-TW": "等待裝置回應…"},
  "ended": {"en": "the file has ended", "zh-TW": "檔案已播完"},
  "over": {"en": "ended", "zh-TW": "已結束"},
  "source": {"en": "Source", "zh-TW": "來源"},
  "right": {"en": "{1} right, measured on FER2013's PublicTest by {2}", "zh-TW": "正確率 {1}，於 FER2013 PublicTest 測得，依據 {2}"},
  "rightOnOwn": {"en": "{1} right, measured on pictures of its own data that it was not trained on", "zh-TW": "正確率 {1}，於其自身資料中未用於訓練的影像測得"},
  "under-voltage": {"en": "under-voltage", "zh-TW": "電壓不足"},
  "frequency capped": {"en": "frequency capped", "zh-TW": "頻率受限"},
  "throttled": {"en": "throttled", "zh-TW": "降速"},
  "soft temperature limit": {"en": "soft temperature limit", "zh-TW": "軟性溫度上限"},
  "no face": {"en": "no face", "zh-TW": "沒有臉"},
  "file deleted": {"en": "file deleted", "zh-TW": "檔案已刪除"},
  "file moved": {"en": "file moved", "zh-TW": "檔案已移動"},
  "readings deleted": {"en": "readings deleted", "zh-TW": "讀數已刪除"},
  "start": {"en": "start", "zh-TW": "開始"},
  "stop": {"en": "stop", "zh-TW": "停止"},
  "failed": {"en": "failed", "zh-TW": "失敗"},
  "unclean end": {"en": "unclean end", "zh-TW": "非正常結束"},
  "camera lost": {"en": "camera lost", "zh-TW": "攝影機斷線"},
  "camera back": {"en": "camera back", "zh-TW": "攝影機恢復"},
  "resumed": {"en": "resumed", "zh-TW": "已恢復"},
  "cooled": {"en": "cooled", "zh-TW": "已降溫"},
  "clock": {"en": "clock", "zh-TW": "時鐘"},
  "log back": {"en": "log back", "zh-TW": "紀錄恢復"},
  "model installed": {"en": "model installed", "zh-TW": "已安裝模型"},
  "model discarded": {"en": "model discarded", "zh-TW": "已捨棄模型"},
  "model changed": {"en": "model changed", "zh-TW": "模型更換"},
  "model refused": {"en": "model refused", "zh-TW": "模型遭拒"},
  "update failed": {"en": "update failed", "zh-TW": "更新失敗"},
  "probation": {"en": "probation", "zh-TW": "試用"},
  "committed": {"en": "committed", "zh-TW": "正式採用"},
  "rolled back": {"en": "rolled back", "zh-TW": "已退回"},
  "shadow": {"en": "shadow", "zh-TW": "影子比較"},
  "shadow ended": {"en": "shadow ended", "zh-TW": "影子比較結束"}
};

// By label; that of another model is shown by its own name.
const LABEL_TEXTS = {
  "angry": {"en": "angry", "zh-TW": "生氣"},
  "disgust": {"en": "disgust", "zh-TW": "厭惡"},
  "fear": {"en": "fear", "zh-TW": "恐懼"},
  "happy": {"en": "happy", "zh-TW": "快樂"},
  "sad": {"en": "sad", "zh-TW": "悲傷"},
  "surprise": {"en": "surprise", "zh-TW": "驚訝"},
  "neutral": {"en": "neutral", "zh-TW": "平靜"},
  "contempt": {"en": "contempt", "zh-TW": "輕蔑"},
  "none": {"en": "no label", "zh-TW": "無標籤"}
};

// What devices, logs and cards say in English: [English, Traditional Chinese]. {1}, {2} … stand
// for what varies, and are translated in their turn. The first that matches counts.
const SENTENCES = [
  [
    "the purpose is public: {1} readings of single faces, {2} minutes with fewer than {3} faces, {4} logs that were moved aside",
    "用途為公共場所：{1} 筆單一臉孔的讀數、{2} 個少於 {3} 張臉的分鐘、{4} 個移開的紀錄"
  ],
  [
    "{1} has other columns than this version writes: moved to {2}",
    "{1} 的欄位與此版本不同：已移至 {2}"
  ],
  [
    "{1}: the oldest {2} of readings deleted to make room; {3}",
    "{1}：為騰出空間，已刪除最舊的 {2} 筆讀數檔；{3}"
  ],
  [
    "{1} is full: the oldest {2} of readings deleted; {3}",
    "{1} 已滿：已刪除最舊的 {2} 筆讀數檔；{3}"
  ],
  [
    "Inferring emotions of people at work or in education, medical and safety reasons aside: forbidden in the EU since 2 February 2025 (Regulation (EU) 2024/1689, Art. 5(1)(f)).",
    "在職場或教育場所推斷人的情緒，醫療與安全理由除外：歐盟自 2025 年 2 月 2 日起禁止（規則 (EU) 2024/1689 第 5 條第 1 項 (f) 款）。"
  ],
  [
    "Watching people who have not been informed: in the EU a duty since 2 August 2026 (Regulation (EU) 2024/1689, Art. 50(3)).",
    "觀察未被告知的人：歐盟自 2026 年 8 月 2 日起負有告知義務（規則 (EU) 2024/1689 第 50 條第 3 項）。"
  ],
  [
    "Of its confidence: below {1} a device says 'uncertain'; that was set for {2} right by {3} on validation rows of FER2013 and holds for such pictures only. On {4} photographs of people {5} of the labels that were told are right by the collection's own labels, at a mean confidence of {6}, and {7} by the consensus of four raters on {8} of them (95 % bootstrap intervals).",
    "關於信心值：低於 {1} 時裝置顯示「不確定」；這是以 FER2013 驗證資料上依 {3} 有 {2} 正確為目標而設，只適用於這類影像。在 {4} 張人物照片上，所給標籤依該影像集自己的標籤有 {5} 正確，平均信心值 {6}；依四位評分者的共識，在其中 {8} 張上有 {7} 正確（95 % 自助法區間）。"
  ],
  [
    "Research and teaching about facial expression recognition on small devices.",
    "小型裝置上臉部表情辨識的研究與教學。"
  ],
  [
    "Installations, games and assistive tools whose users know of it and have agreed.",
    "使用者知情並同意的裝置藝術、遊戲與輔助工具。"
  ],
  [
    "Inferring emotions of people at work or in education, medical and safety reasons aside (EU AI Act, Art. 5(1)(f)).",
    "在職場或教育場所推斷人的情緒，醫療與安全理由除外（歐盟人工智慧法第 5 條第 1 項 (f) 款）。"
  ],
  [
    "Decisions about people: hiring, credit, policing, border control, insurance, health.",
    "對人作出決定：招聘、信貸、警務、邊境管制、保險、健康。"
  ],
  [
    "Watching people who have not been told (EU AI Act, Article 50(3)).",
    "觀察未被告知的人（歐盟人工智慧法第 50 條第 3 項）。"
  ],
  [
    "Watching people who have not been informed (EU AI Act, Article 50(3)).",
    "觀察未被告知的人（歐盟人工智慧法第 50 條第 3 項）。"
  ],
  [
    "It tells what an expression looks like to FER2013's labellers, not what a person feels.",
    "它指出的是表情在 FER2013 標註者眼中的樣子，而不是人的感受。"
  ],
  [
    "It predicts what an expression looks like to FER2013's labellers, not what a person feels.",
    "它預測的是表情在 FER2013 標註者眼中的樣子，而不是人的感受。"
  ],
  [
    "It tells what an expression looks like to most of ten FER+ labellers, not what a person feels.",
    "它指出的是表情在十位 FER+ 標註者中多數人眼中的樣子，而不是人的感受。"
  ],
  [
    "It predicts what an expression looks like to most of ten FER+ labellers, not what a person feels.",
    "它預測的是表情在十位 FER+ 標註者中多數人眼中的樣子，而不是人的感受。"
  ],
  [
    "It predicts what an expression looks like to most people, where none of the seven is expected more than another, not what a person feels.",
    "它預測的是表情在多數人眼中的樣子，不預期七種中的任何一種比其他更多；而不是人的感受。"
  ],
  [
    "FER2013 was collected by web search; ages, skin tones and cultures are unevenly represented and not annotated.",
    "FER2013 由網路搜尋收集而成；年齡、膚色與文化的分布不均，且沒有標註。"
  ],
  [
    "Its labels are noisy: people reach about 65 % on them (Goodfellow et al. 2013). Disgust is rare (1.5 %).",
    "其標籤含有雜訊：人類在其上的正確率約 65 %（Goodfellow 等人，2013）。厭惡很少見（1.5 %）。"
  ],
  [
    "Frontal faces of 48 pixels and more; turned, covered, blurred and badly lit faces are less certain.",
    "適用於 48 像素以上的正面臉孔；側轉、遮蔽、模糊與光線不佳的臉較不確定。"
  ],
  [
    "It predicts what the labels of its training data, {1}, call an expression, not what a person feels.",
    "它預測的是其訓練資料（{1}）的標籤所稱的表情，而不是人的感受。"
  ],
  [
    "Who labelled these pictures, how well they agree, and which ages, skin tones and cultures they show was not recorded; all figures are on rows of the same data.",
    "誰標註了這些影像、標註者之間有多一致，以及其中的年齡、膚色與文化，均無紀錄；所有數字都來自同一份資料。"
  ],
  [
    "Of its confidence: {1}. Other pictures and cameras keep less of it; measure yours with: mien-edge run FOLDER --labels labels.csv",
    "關於信心值：{1}。在其他影像與攝影機上會較低；請自行測量：mien-edge run FOLDER --labels labels.csv"
  ],
  [
    "below a confidence of {1} a device says 'uncertain': set for {2} right by {3}, all labels counting equally, on the hardest of {4}; {5} of the first get a label, of which {6} are right, and {7} of the hardest, {8}, of which {9} are right: what it is set for is never reached there",
    "信心值低於 {1} 時裝置顯示「不確定」：各標籤同等計算，以在下列資料中最難的一種上依 {3} 有 {2} 正確為目標：{4}；第一種資料有 {5} 得到標籤，其中 {6} 正確；最難的「{8}」有 {7} 得到標籤，其中 {9} 正確，未達目標"
  ],
  [
    "below a confidence of {1} a device says 'uncertain': set for {2} right by {3}, all labels counting equally, on the hardest of {4}; {5} of the first get a label, of which {6} are right, and {7} of the hardest, {8}, of which {9} are right",
    "信心值低於 {1} 時裝置顯示「不確定」：各標籤同等計算，以在下列資料中最難的一種上依 {3} 有 {2} 正確為目標：{4}；第一種資料有 {5} 得到標籤，其中 {6} 正確；最難的「{8}」有 {7} 得到標籤，其中 {9} 正確"
  ],
  [
    "It cannot tell reliably: {1}. Of the faces of such a label it finds less than half, or less than half of what it gives that label is right, or they were too few to say.",
    "無法可靠辨識：{1}。這類標籤的臉找到的不到一半，或給出該標籤時正確的不到一半，或樣本太少而無法判斷。"
  ],
  ["ferplus labels", "FER+ 標籤"],
  ["ferplus8 labels", "FER+ 標籤（含輕蔑）"],
  ["fer2013 labels", "FER2013 標籤"],
  ["the data's labels", "資料本身的標籤"],
  ["validation rows", "驗證資料"],
  ["faces that it had not seen in cross-validation", "交叉驗證中未見過的臉"],
  ["blur", "模糊"],
  ["noise", "雜訊"],
  ["low light", "光線不足"],
  ["JPEG", "JPEG 壓縮"],
  ["shift", "位移"],
  ["scale", "縮放"],
  ["rotation", "旋轉"],
  ["occlusion", "遮擋"],
  [
    "below a confidence of {1} a device says 'uncertain': set for {2} right by {3} on validation rows, where {4} of the faces get a label",
    "信心值低於 {1} 時裝置顯示「不確定」：以驗證資料上依 {3} 有 {2} 正確為目標，其中 {4} 的臉得到標籤"
  ],
  [
    "below a confidence of {1} a device says 'uncertain': set for {2} right by {3} on validation rows, which is never reached there; at most {4} are right",
    "信心值低於 {1} 時裝置顯示「不確定」：以驗證資料上依 {3} 有 {2} 正確為目標，但從未達到；至多 {4} 正確"
  ],
  [
    "below a confidence of {1} a device says 'uncertain': set for {2} right by {3} on validation rows, where {4} of the {5} that get a label are right",
    "信心值低於 {1} 時裝置顯示「不確定」：以驗證資料上依 {3} 有 {2} 正確為目標；得到標籤的 {5} 之中有 {4} 正確"
  ],
  [
    "the camera is lost; check its cable, then: journalctl -u mien -e",
    "攝影機已斷線；請檢查連接線，再執行：journalctl -u mien -e"
  ],
  [
    "no frame for {1} s; see: journalctl -u mien -e",
    "{1} 秒沒有影格；請看：journalctl -u mien -e"
  ],
  [
    "the device has {1} now; see: mien-edge doctor",
    "裝置目前{1}；請看：mien-edge doctor"
  ],
  [
    "publishing: {1}",
    "發布：{1}"
  ],
  [
    "the broker {1} is not reached: {2}",
    "無法連上代理伺服器 {1}：{2}"
  ],
  [
    "{1}: the service does not run here; start it with: sudo systemctl start mien",
    "{1}：服務未在此執行；啟動：sudo systemctl start mien"
  ],
  [
    "the run before was killed: by the watchdog, for its memory, or with the power",
    "前一次執行被強制結束：看門狗、記憶體不足或斷電"
  ],
  [
    "{1} before, {2} now",
    "之前是 {1}，現在是 {2}"
  ],
  [
    "set forward by {1} s; the entries since the start moved along",
    "時鐘撥快 {1} 秒；開始以來的紀錄隨之移動"
  ],
  [
    "set back by {1} s; the entries since the start moved along",
    "時鐘撥慢 {1} 秒；開始以來的紀錄隨之移動"
  ],
  [
    "it could not be written for a while; {1} readings were lost",
    "有一段時間無法寫入；遺失 {1} 筆讀數"
  ],
  [
    "the camera is off: it was paused at the device",
    "攝影機已關閉：在裝置上被暫停"
  ],
  [
    "the camera is on again",
    "攝影機再次開啟"
  ],
  [
    "frames flow again",
    "影格恢復"
  ],
  [
    "no frame for {1} s: {2}",
    "{1} 秒沒有影格：{2}"
  ],
  [
    "no frame for {1} s",
    "{1} 秒沒有影格"
  ],
  [
    "{1}: less than {2} frames per second until that is over",
    "{1}：在此之前每秒少於 {2} 影格"
  ],
  [
    "less than {1} frames per second until that is over",
    "在此之前每秒少於 {1} 影格"
  ],
  [
    "{1}: {2} frames per second again",
    "{1}：恢復每秒 {2} 影格"
  ],
  [
    "{1} frames per second again",
    "恢復每秒 {1} 影格"
  ],
  [
    "{1} frames in {2} s ({3} fps), {4} skipped, {5} failed reads, {6} readings of {7} faces, model {8}",
    "{2} 秒內 {1} 影格（每秒 {3}），略過 {4}，讀取失敗 {5}，{7} 張臉共 {6} 筆讀數，模型 {8}"
  ],
  [
    "{1} frames in {2} s ({3} fps), {4} skipped, {5} readings of {6} faces, model {7}",
    "{2} 秒內 {1} 影格（每秒 {3}），略過 {4}，{6} 張臉共 {5} 筆讀數，模型 {7}"
  ],
  [
    "{1} goes on after a restart, {2} of {3} readings of faces until now",
    "{1} 在重新啟動後繼續，目前 {2}／{3} 筆臉部讀數"
  ],
  [
    "{1} for {2} s and {3} readings of faces",
    "{1}，為期 {2} 秒與 {3} 筆臉部讀數"
  ],
  [
    "{1} is compared with {2}",
    "{1} 與 {2} 比較"
  ],
  [
    "{1}: {2} frames and {3} readings of faces, fewer than update.min_faces in {4} s, {5} ms a face",
    "{1}：{4} 秒內 {2} 影格與 {3} 筆臉部讀數（少於 update.min_faces），每張臉 {5} 毫秒"
  ],
  [
    "{1}: {2} frames and {3} readings of faces in {4} s, {5} ms a face",
    "{1}：{4} 秒內 {2} 影格與 {3} 筆臉部讀數，每張臉 {5} 毫秒"
  ],
  [
    "{1}: no face compared yet, {2} s",
    "{1}：尚未比較任何臉，{2} 秒"
  ],
  [
    "{1} agrees on {2} % of {3} faces in {4} s; {5} ms a face, the current one {6}",
    "{1} 在 {4} 秒內的 {3} 張臉中有 {2} % 相同；每張臉 {5} 毫秒，目前的模型 {6}"
  ],
  [
    "the frame rate fell to {1} % of the last hour's",
    "影格率降到前一小時的 {1} %"
  ],
  [
    "a face takes {1} ms where the model before takes {2}",
    "每張臉需 {1} 毫秒，前一個模型為 {2}"
  ],
  [
    "{1} % of all faces are '{2}' to it, {3} % to the model before",
    "它把 {1} % 的臉判為「{2}」，前一個模型為 {3} %"
  ],
  [
    "it ended the service in {1} starts in a row",
    "它使服務連續 {1} 次在啟動時結束"
  ],
  [
    "{1}: by hand; to {2}",
    "{1}：手動退回，改用 {2}"
  ],
  [
    "{1}: {2}; {3} runs again",
    "{1}：{2}；{3} 恢復執行"
  ],
  [
    "{1}; {2} runs again",
    "{1}；{2} 恢復執行"
  ],
  [
    "{1}; {2} runs on",
    "{1}；{2} 繼續執行"
  ],
  [
    "{1}; it is tried again",
    "{1}；稍後會再試"
  ],
  [
    "{1} with {2}",
    "{1}，使用模型 {2}"
  ]
];

const PATTERNS = SENTENCES.map(([english, chinese]) => [asPattern(english), chinese]);

function asPattern(english) {
  const escaped = english.replace(/[.*+?^$()|[\]\\]/g, "\\$&");
  return new RegExp(`^${escaped.replace(/\{\d\}/g, "(.+?)")}$`);
}

// The sentence in Traditional Chinese; what is not in the table stays as it is.
function translate(sentence) {
  for (const [pattern, chinese] of PATTERNS) {
    const match = pattern.exec(sentence);
    if (match) {
      return chinese.replace(/\{(\d)\}/g, (_, number) => translateWord(match[number]));
    }
  }
  return sentence;
}

function wordInChinese(word) {
  const table = Object.hasOwn(LABEL_TEXTS, word) ? LABEL_TEXTS : TEXTS;
  return table[word]?.["zh-TW"];
}

// A word that varies: a key, a sentence, or a list of such.
function translateWord(words) {
  const parts = words.split(", ").map((part) => wordInChinese(part) ?? translate(part));
  const whole = translate(words);
  return whole === words ? parts.join("、") : whole;
}

if (typeof module === "object") {
  module.exports = { TEXTS, SENTENCES, translate }; // for tests
}
