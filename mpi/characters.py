"""Chinese characters as data: traditional to simplified, and characters that are taken for each other.

Both tables hold what occurs in names and addresses, not the whole script; a character that is not here still
matches by its sound, because the reading of a traditional character is that of the simplified one.
"""

import re

TRADITIONAL_PAIRS = """
張张 陳陈 劉刘 楊杨 黃黄 趙赵 吳吴 孫孙 馬马 羅罗 鄭郑 謝谢 許许 鄧邓 馮冯 韓韩 蕭萧 葉叶 蔣蒋
蘇苏 呂吕 盧卢 鍾钟 鐘钟 譚谭 陸陆 賈贾 韋韦 鄒邹 閻阎 閆闫 龍龙 賀贺 顧顾 龔龚 萬万 錢钱 嚴严
賴赖 湯汤 齊齐 喬乔 龐庞 顏颜 莊庄 聶聂 魯鲁 歐欧 關关 蘭兰 寧宁 甯宁 紀纪 單单 駱骆 藍蓝 華华
畢毕 塗涂 遊游 饒饶 鮑鲍 陰阴 陽阳 時时 農农 簡简 車车 項项 連连 蘆芦 麥麦 婁娄 竇窦 黨党 宮宫
費费 衛卫 應应 閔闵 鄔邬 邊边 師师 榮荣 鞏巩 談谈 儲储 樂乐 勞劳 諶谌 闞阚 權权 強强 帥帅 蓋盖
練练 豐丰 國国 計计 晉晋 門门 雲云 來来 偉伟 軍军 東东 傑杰 鵬鹏 飛飞 剛刚 慶庆 紅红 興兴 學学
寶宝 義义 貴贵 維维 澤泽 進进 樹树 遠远 順顺 棟栋 傳传 漢汉 躍跃 銘铭 鴻鸿 書书 銀银 靜静 麗丽
豔艳 艷艳 鳳凤 開开 紹绍 雙双 鋼钢 運运 鐵铁 聰聪 懷怀 勳勋 勛勋 銳锐 濱滨 業业 為为 駿骏 誠诚
瑋玮 聖圣 穎颖 揚扬 軒轩 錫锡 標标 鈞钧 煥焕 騰腾 燦灿 鋒锋 輝辉 濤涛 亞亚 嬌娇 蓮莲 瓊琼 瑩莹
倫伦 潔洁 欽钦 潤润 賓宾 顯显 嶽岳 財财 曉晓 靈灵 橋桥 蘊蕴 齡龄 愛爱 夢梦 瀟潇 瑤瑶 貞贞 賢贤
韻韵 劍剑 億亿 儀仪 優优 兒儿 凱凯 則则 創创 動动 勝胜 協协 啟启 啓启 園园 圓圆 團团 場场 壽寿
奮奋 婭娅 實实 寬宽 審审 對对 將将 嵐岚 崗岗 嶺岭 幫帮 幹干 廣广 廳厅 彌弥 後后 從从 復复 徵征
恆恒 悅悦 憲宪 戰战 戶户 據据 敵敌 晝昼 暢畅 曆历 會会 朧胧 條条 楓枫 構构 樞枢 樣样 機机 歡欢
歲岁 歸归 氣气 決决 溫温 滿满 漁渔 濟济 煒炜 烏乌 熱热 燁烨 爾尔 獎奖 獻献 現现 環环 琺珐 畫画
異异 發发 盡尽 矯矫 碩硕 禮礼 禎祯 種种 稱称 穩稳 節节 篤笃 範范 純纯 納纳 紋纹 紛纷 細细 終终
組组 絡络 給给 統统 絲丝 經经 綠绿 綺绮 綿绵 緒绪 線线 緯纬 縣县 縱纵 總总 織织 繼继 續续 纖纤
習习 聲声 職职 肅肃 脈脉 腦脑 與与 舊旧 艦舰 薈荟 薩萨 藝艺 藥药 虛虚 蟬蝉 補补 裝装 見见 規规
覺觉 觀观 訓训 記记 訪访 設设 評评 詠咏 試试 詩诗 話话 詳详 誌志 語语 誼谊 論论 諾诺 謀谋 謙谦
講讲 證证 識识 護护 讚赞 貝贝 負负 貢贡 貫贯 責责 貿贸 資资 質质 贊赞 贏赢 趨趋 軟软 輕轻 載载
輪轮 轉转 過过 達达 適适 遷迁 選选 遺遗 遼辽 還还 邁迈 郵邮 鄉乡 鄰邻 醫医 釗钊 針针 鈺钰 鉅巨
鉑铂 銓铨 錄录 錦锦 錯错 鍵键 鎖锁 鎮镇 鏡镜 鑄铸 鑒鉴 長长 閃闪 閒闲 間间 閣阁 閱阅 闊阔 陝陕
陣阵 際际 隊队 階阶 隨随 險险 隱隐 雜杂 離离 難难 電电 霧雾 靄霭 韜韬 響响 頂顶 預预 領领 頻频
題题 願愿 類类 風风 飄飘 養养 餘余 館馆 馳驰 駐驻 騎骑 驍骁 驕骄 驗验 髮发 鬆松 魚鱼 鮮鲜 鳴鸣
鴿鸽 鵑鹃 鶴鹤 鷹鹰 鸞鸾 點点 灣湾 區区 號号 樓楼 滬沪 瀘泸 閬阆 鹽盐 衝冲 個个 們们 倉仓 傢家
傷伤 價价 償偿 內内 兩两 別别 務务 勵励 勻匀 匯汇 嘯啸 嚮向 堅坚 報报 塊块 壇坛 壯壮 壩坝 奧奥
妝妆 娛娱 孃娘 專专 尋寻 導导 屆届 層层 島岛 峽峡 幣币 庫库 廟庙 廠厂
"""

LOOK_ALIKE_GROUPS = """
己已巳 末未 天夭 土士 千干于 日曰 人入八 大太犬 王玉主 木本术 田由甲申 刀力 午牛 贝见 今令 候侯
析折 晴睛 清请情 祥样 伟玮炜纬 俊峻竣骏 辉晖 波坡 洁浩 芳芬 萍苹 梅海 姗珊 婷停亭 莉利 玲铃 琳林
明朋 杨扬 陈阵 徐余涂除 宋宁 袁衰 沈沉 吕昌 汤扬 肖萧 阎闫 钰玉 晨辰 彬斌 建健 钢刚纲 峰锋烽
涛淘 鹏朋 瑶谣 颖颍 冯马 军车 洋羊样 昊吴 旦但 宇字 亮高 永水 志忐 忠患 玟玫 攻政 敏繁 李季 张弓
周同 孙孔 朱未 何河 郭部 罗岁 谢射 邓郑 蒋将 邱丘 熊能 秦泰奏 江汪 史吏 龙尤 万方 毛手 庄压
"""

TRADITIONAL = {ord(pair[0]): pair[1] for pair in TRADITIONAL_PAIRS.split()}
LOOK_ALIKE = {character: group[0] for group in LOOK_ALIKE_GROUPS.split() for character in group}
"""A character and the one that stands for its group: characters that are misread or misclicked."""


def simplified(text: str) -> str:
    """The text with traditional characters replaced."""
    return text.translate(TRADITIONAL)


HAN = re.compile("[㐀-鿿豈-﫿々〇𠀀-𲎯]")


def has_han(text: str) -> bool:
    """Whether a character of it is Chinese (CJK unified ideographs, with extensions)."""
    return bool(HAN.search(text))
